"""No secret is kept in what is written of a run, and what is none stays."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmptests.redaction import Redaction

S = "s3cr,,et;X"
NAME = "@QMPTESTS_SECRET_1@"

#: Command lines in which S is a secret, and nothing else is.
SECRET = [
    ["-object", "secret,id=s0,data={}"],
    ["-object", "secret,data={},id=s0,format=raw"],
    ["-object", "secret,id=s0,format=raw,data={}"],
    ["-object", "qom-type=secret,id=s0,data={}"],
    ["-object", "id=s0,data={},qom-type=secret"],
    ["-object", '{"qom-type":"secret","id":"s0","data":"{}"}'],
    ["-object", '{"data":"{}","id":"s0","qom-type":"secret"}'],
    ["-spice", "port=1,password={}"],
    ["-spice", "password={},port=1"],
    ["-drive", "file=x,password={},if=none"],
    ["-blockdev", '{"driver":"ssh","nested":{"password":"{}"}}'],
    ["-blockdev", "driver=https,url=https://h/x,cookie={}"],
    ["-iscsi", "user=me,password={}"],
    ["-smbios", "type=11,value=io.systemd.credential:x={}"],
    ["-fw_cfg", "name=opt/io.systemd.credentials/x,string={}"],
    ["-fw_cfg", "name=opt/com.example/root-password,string={}"],
    ["-fw_cfg", "name=opt/com.example/token.txt,string={}"],
    ["-smbios", "type=11,value=root_password:{}"],
]
#: The same with a secret that is a word.
WORD = "s3cretX"
WORDS = [
    *SECRET,
    ["-drive", "file=iscsi://me%{}@host/iqn/1"],
    ["-drive", "file=https://me:{}@host/disk.img"],
    ["-drive", "file=https://{}@host/disk.img,if=none"],
    ["-drive", "file=rbd:pool/image:id=me:key={}:mon_host=h"],
    ["-append", "root=/dev/sda db_password={} quiet"],
    ["-append", "quiet http://me:{}@host/ks.cfg"],
    ["-append", "quiet systemd.set_credential=x:{}"],
    ["-append", "quiet systemd.set_credential_binary=x:{} luks.passcode={} wifi.psk={}"],
    ["-smbios", "type=11,value=systemd.set_credential=x:{}"],
    ["env", "PASSWORD_PROD={}", "secretkey={}", "PASSWORD2={}", "ENCRYPTION_KEY={}", "qemu"],
    ["tool", "--password-value", "{}", "--psk={}"],
    ["sshpass", "-p", "{}", "ssh", "host"],
    ["sshpass", "-p{}", "ssh", "host"],
    ["/usr/bin/sshpass", "-p", "{}", "ssh"],
    ["env", "TOKEN={}", "qemu"],
    ["env", "DB_PASSWORD={}", "AWS_SECRET_ACCESS_KEY={}", "PGPASSWORD={}", "qemu"],
    ["env", "GITHUB_TOKEN={}", "SSHPASS={}", "API_KEY={}"],
    ["curl", "-u", "me:{}", "https://host"],
    ["curl", "--user", "me:{}"],
    ["curl", "-H", "Authorization: Bearer {}"],
    ["curl", "-H", "PRIVATE-TOKEN: {}"],
    ["tool", "--password", "{}"],
    ["tool", "--password={}", "--client-secret={}"],
    ["tool", "--auth-token", "{}"],
    ["curl", "--user=me:{}", "--proxy-user=me:{}"],
    ["openssl", "-passin", "pass:{}"],
    ["env", "MYSQL_PWD={}", "SECRET={}", "http_proxy=http://me:{}@proxy:3128"],
    ["sh", "-c", 'export TOKEN={}; exec "$@"'],
    ["sh", "-c", "sshpass -p {} ssh h 'curl -u me:{} x'"],
    ["sh", "-c", "tool --password '{}' x"],
]
#: What names a secret, or is none.
PLAIN = [
    ["-object", "secret,id=s0,file=/etc/key,format=base64"],
    ["-object", "tls-creds-x509,id=t,dir=/x,passwordid=s0"],
    ["-drive", "file=x,password-secret=s0,encrypt.key-secret=s0,cookie-secret=s1"],
    ["-blockdev", '{"driver": "luks", "key-secret": "s0"}'],
    ["-vnc", ":1,password=on"],
    ["-spice", "password-secret=s0,disable-ticketing=on"],
    ["-iscsi", "user=me,password-secret=s0"],
    ["-drive", "file=ssh://me@host/x"],
    ["-device", "vfio-pci,id=vf0,host=0000:00:01.0"],
    ["-chardev", "socket,id=qmp,fd=3", "-netdev", "user,id=n,hostfwd=tcp:127.0.0.1:22-:22"],
    ["-fw_cfg", "name=opt/x,string=hello", "-append", "console=ttyS0 keyboard=us"],
    ["gdb", "--args"],
    ["env", "PWD=/root", "OLDPWD=/", "XDG_CONFIG_HOME=/x", "bypass=1", "qemu"],
    ["valgrind", "--log-file=x", "--token-file=/x", "--passwords-test-dir=x"],
    ["-fw_cfg", "name=opt/x/password,file=/etc/x", "-smbios", "type=11,value=note: password"],
]


def filled(value: Any, secret: str) -> Any:
    if isinstance(value, str):
        return value.replace("{}", secret)
    return [filled(word, secret) for word in value]


@pytest.mark.parametrize(
    ("words", "secret"),
    [*((words, S) for words in SECRET), *((words, WORD) for words in WORDS)],
    ids=lambda value: " ".join(value) if isinstance(value, list) else value,
)
def test_a_secret_of_a_command_line_has_a_name_in_all_places(words: list[str], secret: str) -> None:
    redaction = Redaction()
    hidden = redaction.arguments(filled(words, secret))
    normal = [
        w if not w.startswith("{") else json.dumps(json.loads(w)) for w in filled(words, NAME)
    ]
    assert hidden == normal
    assert redaction.arguments(hidden) == hidden
    plain = secret.replace(",,", ",")
    assert redaction.text(f"qemu: {plain}: no '{secret}'!") == f"qemu: {NAME}: no '{NAME}'!"


@pytest.mark.parametrize("words", PLAIN, ids=" ".join)
def test_what_is_no_secret_stays(words: list[str]) -> None:
    redaction = Redaction()
    assert redaction.arguments(words) == words
    assert redaction.tree({"argv": words, "text": " ".join(words)}) == {
        "argv": words,
        "text": " ".join(words),
    }


COMMANDS: list[dict[str, Any]] = [
    {"execute": "set_password", "arguments": {"protocol": "vnc", "password": "{}"}},
    {"execute": "change-vnc-password", "arguments": {"password": "{}"}},
    {"execute": "object-add", "arguments": {"qom-type": "secret", "id": "s", "data": "{}"}},
    {
        "execute": "object-add",
        "arguments": {"qom-type": "secret", "id": "s", "props": {"data": "{}"}},
    },
    {
        "execute": "blockdev-add",
        "arguments": {"driver": "iscsi", "password": "{}", "file": {"url": "http://a:{}@h/"}},
    },
    {"execute": "migrate", "arguments": {"uri": "exec:sshpass -p {} ssh host"}},
    {"execute": "migrate", "arguments": {"uri": "exec:curl -T - https://me:{}@host/"}},
    {
        "execute": "migrate",
        "arguments": {
            "channels": [
                {
                    "channel-type": "main",
                    "addr": {"transport": "exec", "args": ["sshpass", "-p", "{}", "ssh"]},
                }
            ]
        },
    },
    {
        "execute": "human-monitor-command",
        "arguments": {"command-line": "object_add secret,id=x,data={}"},
    },
    {"execute": "human-monitor-command", "arguments": {"command-line": "set_password vnc {}"}},
    {"execute": "human-monitor-command", "arguments": {"command-line": "change vnc password {}"}},
    {"execute": "qom-set", "arguments": {"path": "/x", "property": "password", "value": "{}"}},
    {"execute": "qom-set", "arguments": {"path": "/objects/s", "property": "data", "value": "{}"}},
    {"execute": "sev-inject-launch-secret", "arguments": {"packet-header": "a", "secret": "{}"}},
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: json.dumps(c["arguments"]))
def test_a_secret_of_a_qmp_command_too(command: dict[str, Any]) -> None:
    redaction = Redaction()
    text = json.dumps(command)
    assert redaction.message(json.loads(text.replace("{}", WORD))) == json.loads(
        text.replace("{}", NAME)
    )
    assert redaction.text(f"no {WORD} here") == f"no {NAME} here"


def test_a_qmp_command_without_one_stays() -> None:
    for arguments in (
        {"driver": "luks", "key-secret": "s0", "node-name": "secret-disk"},
        {"uri": "tcp:127.0.0.1:4444"},
        {"parameters": {"tls-creds": "t", "max-bandwidth": 1 << 30}},
        {"qom-type": "secret", "id": "s", "file": "/etc/key"},
        {"path": "/x", "property": "realized", "value": "yes"},
        {"val": 1, "size": 4096, "filename": "/tmp/password"},
    ):
        message = {"execute": "x", "arguments": arguments}
        redaction = Redaction()
        assert redaction.message(message) == message


def test_each_secret_has_its_name_and_a_short_one_is_hidden_where_it_is_given() -> None:
    redaction = Redaction()
    words = ["-object", "secret,id=a,data=on1", "-object", "secret,id=b,data=longer"]
    assert redaction.arguments(words)[1::2] == [
        "secret,id=a,data=@QMPTESTS_SECRET_1@",
        "secret,id=b,data=@QMPTESTS_SECRET_2@",
    ]
    assert redaction.text("on1 and longer") == "on1 and @QMPTESTS_SECRET_2@"
    assert "on1" not in redaction.text("bad: secret,id=a,data=on1: x")


def test_a_log_is_searched_for_what_is_known(tmp_path: Path) -> None:
    file = tmp_path / "x.log"
    redaction = Redaction()
    redaction.arguments(["-object", 'secret,id=s,data=a"b,,c\u00e9'])
    file.write_bytes('1 a"b,c\u00e9 \xff\n2\n'.encode() + b"\xff" + rb'3 {"x": "a\"b,c\u00e9"}')
    file.chmod(0o640)
    redaction.file(file)
    name = NAME.encode()
    assert file.read_bytes() == b"1 " + name + "\u0020\xff\n2\n".encode() + b"\xff" + (
        b'3 {"x": "' + name + b'"}'
    )
    assert file.stat().st_mode & 0o777 == 0o640
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ("file=https://me:a%40b%2C%27c@host/x", "no a@b,'c"),
        ("password=a@b/'c d", "tried https://me:a%40b%2F%27c%20d@host"),
        ("password=hunter2", "Authorization uses bWU6 and aHVudGVyMg=="),
        ("password=a'b\\c", "sh: 'a'\"'\"'b\\c'"),
        ("password=a'b\"c\\d", repr("python: a'b\"c\\d")),
    ],
)
def test_one_is_known_as_programs_write_it(argument: str, said: str) -> None:
    redaction = Redaction()
    redaction.arguments(["-drive", argument])
    hidden = redaction.text(said)
    assert NAME in hidden
    assert not any(part in hidden for part in ("a@b", "a%40b", "aHVudGVyMg", "b\\c", 'b"c'))


def test_a_short_one_is_found_in_what_qemu_wrote_if_it_can_be_seen(tmp_path: Path) -> None:
    file = tmp_path / "x.stderr.log"
    file.write_bytes(b"\xff qemu: -spice password=abc: no\nabc\n")
    redaction = Redaction()
    redaction.arguments(["-spice", "password=abc"])
    redaction.file(file, seen=True)
    assert file.read_bytes().startswith(b"\xff qemu: -spice password=@QMPTESTS_SECRET_")
    assert file.read_bytes().endswith(b"no\nabc\n")


@pytest.mark.parametrize(
    "part",
    [
        *("a", ",", "=", '"', "'", "\\", "@", "%", "a,", "a:", "://a", "--a-", "curl ", "rbd:"),
        *("secret,", "secret,,", "data=", '"data":"', '"type":"secret', "password", "password="),
        "authorization:",
    ],
)
def test_a_long_text_takes_no_longer_than_its_length(part: str) -> None:
    def seconds(count: int) -> float:
        text = part * (count // len(part))
        began = time.process_time()
        Redaction().arguments(["-x", text])
        Redaction().text(text)
        return time.process_time() - began

    seconds(1000)
    assert seconds(40_000) < 40 * max(seconds(5_000), 0.002)


@given(st.text(), st.lists(st.text(max_size=8)))
def test_any_text_can_be_searched_and_is_found_alike_again(text: str, words: list[str]) -> None:
    redaction = Redaction()
    once = redaction.arguments([*words, text])
    assert len(once) == len(words) + 1
    assert redaction.arguments(once) == once
    assert redaction.text(redaction.text(text)) == redaction.text(text)
