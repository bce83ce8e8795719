"""`qmptests vfio run` and `ctl`: command lines under the emulator, real QEMUs among them."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from qmptests.builds import Build
from qmptests.cli.vfio import substitute
from qmptests.cli.vfio_ctl import words_of
from qmptests.errors import InputError
from qmptests.vfio import client

MAIN = (sys.executable, "-m", "qmptests.cli.main", "vfio")
SECONDS = 60


@pytest.fixture(autouse=True)
def runtime_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    # Not below tmp_path: a UNIX socket's path holds 107 characters only.
    with tempfile.TemporaryDirectory() as folder:
        monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
        yield Path(folder)


def vfio(*words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*MAIN, *words], capture_output=True, text=True, timeout=SECONDS, check=False
    )


class Running:
    """A command that runs under the emulator."""

    def __init__(self, options: Sequence[str], command: Sequence[str]) -> None:
        self.process = subprocess.Popen(
            [*MAIN, "run", *options, "--", *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            bufsize=1,
            start_new_session=True,
        )
        self._watchdog = threading.Timer(SECONDS, self._kill)
        self._watchdog.start()
        assert self.process.stderr
        self.first_line = self.process.stderr.readline()
        self.socket = self.first_line.split()[-2]

    def line(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline()

    def end(self) -> tuple[int, list[str]]:
        """The exit status and what stood on stderr, but for the first line."""
        _, said = self.process.communicate(timeout=SECONDS)
        return self.process.returncode, said.splitlines()

    def close(self) -> None:
        self._watchdog.cancel()
        if self.process.poll() is None:
            self._kill()
            self.process.communicate()

    def _kill(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)


@pytest.fixture
def running() -> "Iterator[Any]":
    started: list[Running] = []

    def start(options: Sequence[str], command: Sequence[str]) -> Running:
        started.append(Running(options, command))
        return started[-1]

    yield start
    for one in started:
        one.close()


class Qemu:
    """A QEMU with devices, under `vfio run`, with its monitor on standard input and output."""

    def __init__(self, running: Any, build: Build, options: Sequence[str], *more: str) -> None:
        devices = []
        for number in range(options.count("--device")):
            devices += ["-device", f"vfio-pci,id=vf{number},fd=@vfio{number},iommufd=i0"]
        self.run = running(
            options,
            [
                *(*build.argv, "-nodefaults", "-display", "none", "-machine", "q35", "-m", "64M"),
                *("-qmp", "stdio", "-object", "iommufd,id=i0,fd=@iommufd", *devices, *more),
            ],
        )
        assert "QMP" in json.loads(self.run.line())
        self.execute("qmp_capabilities")

    def send(self, name: str, **arguments: Any) -> None:
        self.run.process.stdin.write(json.dumps({"execute": name, "arguments": arguments}) + "\n")

    def reply(self) -> Any:
        while "return" not in (message := json.loads(self.run.line())):
            assert "error" not in message, message
        return message["return"]

    def execute(self, name: str, **arguments: Any) -> Any:
        self.send(name, **arguments)
        return self.reply()

    def until(self, event: str, **data: Any) -> None:
        while True:
            message = json.loads(self.run.line())
            if message.get("event") == event and data.items() <= message["data"].items():
                return


@pytest.fixture
def qemu(running: Any, destination_build: Build) -> Any:
    return lambda options, *more: Qemu(running, destination_build, options, *more)


# --- run ----------------------------------------------------------------------------------------

ALLOCATE = """
import fcntl, sys
argument = bytearray(12)
argument[0] = 12
fcntl.ioctl(int(sys.argv[1]), 0x3B81, argument)
print(argument[8:].hex(), sys.stdin.read(), sys.argv[2])
sys.exit(7)
"""


@pytest.mark.smoke
def test_a_command_has_the_descriptors_and_keeps_its_input_output_and_status(
    tmp_path: Path,
) -> None:
    log = tmp_path / "log"
    done = subprocess.run(
        [
            *(*MAIN, "run", "--device", "idle", "--log", str(log), "--"),
            *(sys.executable, "-c", ALLOCATE, "@iommufd", "a,fd=@vfio0,b"),
        ],
        input="hello",
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert (done.returncode, done.stdout) == (7, "01000000 hello a,fd=201,b\n")
    told, *rest = done.stderr.splitlines()
    assert told.startswith("qmptests: vf0 (idle): `qmptests vfio ctl --socket ")
    assert rest == ["qmptests: vf0 (idle): the command did not use it"]
    header, call, ended = map(json.loads, log.read_text().splitlines())
    assert header["devices"][0]["profile"] == "idle"
    assert (call["device"], call["call"]) == ("iommufd", "ioas-alloc")
    assert (ended["note"], ended["status"]) == ("ended", 7)
    assert list(tmp_path.iterdir()) == [log]


def test_a_command_that_is_killed_has_a_shells_status_and_leaves_no_socket(
    runtime_folder: Path,
) -> None:
    done = vfio("run", "--device", "idle", "--", "sh", "-c", "kill -9 $$")
    assert done.returncode == 128 + signal.SIGKILL
    assert list(runtime_folder.iterdir()) == []


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 11), (signal.SIGINT, 12)])
def test_a_signal_is_the_commands_to_handle(
    running: Any, number: signal.Signals, status: int, runtime_folder: Path
) -> None:
    """SIGTERM comes to the supervisor alone, Ctrl-C to both."""
    code = f"""
import signal, sys
signal.signal({number.value}, lambda *_: sys.exit({status}))
print("ready", flush=True)
signal.pause()
"""
    run = running(["--device", "idle"], [sys.executable, "-c", code])
    assert run.line() == "ready\n"
    if number == signal.SIGINT:
        os.killpg(run.process.pid, number)
    else:
        run.process.send_signal(number)
    assert run.end()[0] == status
    assert list(runtime_folder.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_while_it_starts_is_not_lost(
    running: Any, number: signal.Signals, runtime_folder: Path
) -> None:
    """The first line comes before the supervisor is there."""
    if signal.getsignal(number) is signal.SIG_IGN:
        pytest.skip(f"{number.name} is ignored here, as under nohup, and so by what is started")
    run = running(["--device", "idle"], ["cat"])
    os.killpg(run.process.pid, number)
    assert run.end()[0] == 128 + number
    assert list(runtime_folder.iterdir()) == []


def test_without_a_handler_ctrl_c_ends_both(running: Any, runtime_folder: Path) -> None:
    run = running(["--device", "idle"], ["sh", "-c", "echo ready; exec sleep 1000"])
    assert run.line() == "ready\n"
    os.killpg(run.process.pid, signal.SIGINT)
    assert run.end()[0] == 128 + signal.SIGINT
    assert list(runtime_folder.iterdir()) == []


def test_a_problem_is_said_aloud(tmp_path: Path) -> None:
    code = "import fcntl, sys; fcntl.ioctl(int(sys.argv[1]), 0x3B99, bytearray(8))"
    done = vfio("run", "--device", "idle", "--", sys.executable, "-c", code, "@iommufd")
    assert done.returncode == 1
    assert "qmptests: system call" in done.stderr
    assert "Inappropriate ioctl" in done.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--device", "idle", "true"], "put the command to run after '--'"),
        (["--device", "idle", "--"], "Missing argument"),
        (["--", "true"], "give --device, once for each, or --like LOG"),
        (["--device", "idle", "--like", "log", "--", "true"], "or --like LOG"),
        (["--like", "/nowhere/log", "--", "true"], "can't read the call log /nowhere/log"),
        (["--device", "nosuch", "--", "true"], "unknown device profile 'nosuch'"),
        (["--device", "e1000e", "--", "true"], "is no emulated VFIO device; these are: busy"),
        (["--device", "idle"] * 9 + ["--", "true"], "too many devices: 9, and 8 is the most"),
        (["--device", "idle", "--", "echo", "@vfio1"], "there is no @vfio1: only @vfio0"),
        (["--device", "idle", "--", "/nowhere/qemu"], "/nowhere/qemu: there is no such command"),
        (["--device", "idle", "--log", "/nowhere/log", "--", "true"], "cannot write /nowhere/log"),
        (["--device", "idle", "--control", "/dev/null", "--", "true"], "it exists already"),
        (["--device", "idle", "--control", "/nowhere/s", "--", "true"], "cannot listen on /now"),
        (["--device", "idle", "--control", "/tmp/" + "x" * 110, "--", "true"], "too long"),
    ],
)
def test_bad_input_is_one_line_and_status_2(
    words: list[str], says: str, runtime_folder: Path
) -> None:
    done = vfio("run", *words)
    (line,) = done.stderr.splitlines()
    assert (done.returncode, line.startswith("qmptests: error: ")) == (2, True)
    assert says in line
    assert list(runtime_folder.iterdir()) == []


def test_the_devices_of_a_log_come_again(tmp_path: Path) -> None:
    log = tmp_path / "log"
    devices = ("--device", "busy,when=reset+hold", "--device", "idle")
    assert vfio("run", *devices, "--log", str(log), "--", "true").returncode == 0
    again = tmp_path / "again"
    done = vfio("run", "--like", str(log), "--log", str(again), "--", "echo", "@vfio1")
    assert (done.returncode, done.stdout) == (0, "202\n")
    first, second = (json.loads(path.read_text().splitlines()[0]) for path in (log, again))
    assert first["devices"] == second["devices"]
    assert second["devices"][0]["rules"][0]["on"] == "reset"
    log.write_text('{"format": 1, "devices": [{"name": "vf0", "legs": 4}]}\n')
    done = vfio("run", "--like", str(log), "--", "true")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "not this version's" in done.stderr


def test_placeholders_are_whole_words() -> None:
    assert substitute(["fd=@vfio1,x=@iommufd", "a@vfio0"], 2) == ["fd=202,x=200", "a201"]
    assert substitute(["@vfio", "@iommufdx", "@vfio0x"], 1) == ["@vfio", "@iommufdx", "@vfio0x"]
    with pytest.raises(InputError, match="@vfio0 to @vfio1"):
        substitute(["@vfio2"], 2)


# --- ctl ----------------------------------------------------------------------------------------


def test_a_device_is_held_and_released_from_elsewhere(qemu: Any) -> None:
    vm = qemu(["--device", "idle"])
    status = json.loads(vfio("ctl", "status", "--json").stdout)
    assert [device["state"] for device in status["devices"]] == ["running"]
    assert vfio("ctl", "hold", "reset").stdout == "rule 1\n"
    watch = subprocess.Popen([*MAIN, "ctl", "watch"], stdout=subprocess.PIPE, text=True)
    assert watch.stdout
    assert watch.stdout.readline() == "vf0 state running\n"
    vm.send("system_reset")
    seen = watch.stdout.readline()
    assert seen == "vf0 fired reset+hold (at reset)\n"
    assert watch.stdout.readline() == "vf0 held reset\n"
    table = vfio("ctl", "status").stdout.splitlines()
    assert table[0].split() == ["DEVICE", "STATE", "SENT", "REINITS", "HELD"]
    assert table[1].split()[-1] == "reset"
    assert vfio("ctl", "release", "vf0").stdout == "released 1\n"
    vm.until("RESET")
    vm.send("quit")
    assert vm.run.end()[0] == 0
    rest = watch.communicate(timeout=SECONDS)[0].splitlines()
    assert rest[-1] == "- ended status 0"


def test_a_rule_is_added_and_taken_away(qemu: Any) -> None:
    vm = qemu(["--device", "idle", "--device", "idle"])
    assert vfio("ctl", "rule", "vf1", "get-state+errno=EIO+times=0").stdout == "rule 1\n"
    assert vfio("ctl", "unrule", "vf1", "1").stdout == ""
    done = vfio("ctl", "rule", "vf1", "write+delay=1ms")
    assert (done.returncode, "from the start" in done.stderr) == (2, True)
    assert vfio("ctl", "rule", "vf1", "probe+errno=EIO").stdout == "rule 2\n"
    vm.send("quit")
    status, said = vm.run.end()
    assert status == 0
    assert said[-2:] == [
        "qmptests: vf0 (idle): stop",
        "qmptests: vf1 (idle): stop; never fired: probe+errno=EIO",
    ]


def test_the_supervisors_death_is_qemus_and_is_told(qemu: Any, runtime_folder: Path) -> None:
    vm = qemu(["--device", "idle"])
    assert vfio("ctl", "die").returncode == 0
    status, said = vm.run.end()
    assert status == 128 + signal.SIGKILL
    told = "qmptests: error: the supervisor was killed by SIGKILL, and the command with it"
    assert said[-1] == told
    assert list(runtime_folder.iterdir()) == []


def test_the_socket_of_one_that_was_killed_is_no_bother(runtime_folder: Path) -> None:
    left = client.listen(client.own_path())
    left.close()
    assert len(list(runtime_folder.iterdir())) == 1
    done = vfio("ctl", "status")
    assert (done.returncode, "no `qmptests vfio run`" in done.stderr) == (2, True)
    assert list(runtime_folder.iterdir()) == []


#: Everything that it starts has this in its environment.
FAMILY = "QMPTESTS_TEST_FAMILY"
#: Children that stay, in sessions of their own and orphaned, with signals that they don't heed.
SHELL = """
trap '' HUP TERM
for i in 1 2 3; do setsid sleep 1000 & (sleep 1000 & sleep 1000 &) done
"""


def family(name: str) -> list[int]:
    """Who lives of it; zombies don't."""
    pids = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"{FAMILY}={name}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                pids.append(int(folder.name))
    return pids


@pytest.mark.parametrize("end", ["exit", "killed", "guard", "supervisor", "SIGTERM", "session"])
def test_nothing_that_a_shell_has_started_outlives_it(
    running: Any, runtime_folder: Path, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However it ends, and whoever of guard and supervisor is killed."""
    monkeypatch.setenv(FAMILY, runtime_folder.name)
    last = "echo; exec cat" if end != "exit" else "echo; exit 0"
    if end == "SIGTERM":
        last = "trap 'exit 5' TERM; sleep 1000 & echo; wait"
    run = running(["--device", "idle"], ["sh", "-c", SHELL + last])
    run.line()
    guard = run.process.pid
    (supervisor,) = map(int, Path(f"/proc/{guard}/task/{guard}/children").read_text().split())
    children = Path(f"/proc/{supervisor}/task/{supervisor}/children").read_text().split()
    if end == "killed":
        os.kill(int(children[0]), signal.SIGKILL)
    elif end == "guard":
        os.kill(guard, signal.SIGKILL)
    elif end == "supervisor":
        os.kill(supervisor, signal.SIGKILL)
    elif end == "SIGTERM":
        os.kill(guard, signal.SIGTERM)
    elif end == "session":
        os.killpg(guard, signal.SIGHUP)
        os.kill(int(children[0]), signal.SIGKILL)  # it does not heed it
    status, _ = run.end()  # at the end of file on stderr, which all of them have
    expected = {"exit": 0, "guard": -signal.SIGKILL, "SIGTERM": 5}
    assert status == expected.get(end, 128 + signal.SIGKILL)
    assert family(runtime_folder.name) == []
    assert list(runtime_folder.iterdir()) == []


def test_of_several_one_is_chosen(running: Any) -> None:
    first, second = (running(["--device", "idle"], ["cat"]) for _ in range(2))
    done = vfio("ctl", "status")
    assert done.returncode == 2
    assert first.socket in done.stderr
    assert second.socket in done.stderr
    assert vfio("ctl", "--socket", second.socket, "status").returncode == 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["hold"], "hold what? ctl hold [DEVICE] CALL"),
        (["hold", "nothing"], "unknown call 'nothing'"),
        (["hold", "vf7", "reset"], "there is no device 'vf7': vf0, vf1"),
        (["hold", "reset"], "which device? there are vf0, vf1"),
        (["hold", "reset+nht=2"], "unknown key 'nht'"),
        (["rule", "vf0", "set-state"], "is not CALL+DO"),
        (["unrule", "vf0", "x"], "unrule: 'x' is not a number"),
        (["unrule", "vf0", "9"], "vf0 has no rule 9"),
        (["reinit", "vf0", "5"], "5 is not a multiple of 4096"),
        (["reinit", "vf0", "1M", "more"], "too many words: ctl reinit [DEVICE] SIZE"),
        (["status", "vf0"], "too many words: ctl status"),
        (["fly"], "'fly' is not one of"),
        (["--socket", "/nowhere", "status"], "listens on /nowhere: No such file"),
    ],
)
def test_what_ctl_does_not_understand_is_one_line_and_status_2(
    words: list[str], says: str, two_devices: Path
) -> None:
    done = vfio("ctl", *([] if "--socket" in words else ["--socket", str(two_devices)]), *words)
    (line,) = done.stderr.splitlines()
    assert (done.returncode, line.startswith("qmptests: error: ")) == (2, True)
    assert says in line


@pytest.fixture(scope="module")
def two_devices(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Path]":
    path = tmp_path_factory.mktemp("r") / "s"
    run = Running(["--device", "idle", "--device", "idle", "--control", str(path)], ["cat"])
    yield path
    run.close()


#: None of them can be carried out, but for the one whose "id" no answer repeats.
ODD = [
    b"",
    b"\xff",
    b"1",
    b"[" * 50_000,
    b'{"id":' * 10_000,
    b'{"id":[[]],"do":"status"}',
    b'{"do":7}',
    b'{"do":"status","device":{}}',
    b'{"do":"release","device":[1]}',
    *(
        b'{"do":"%s","device":"vf0","value":%s}' % (do, value)
        for do in (b"grow", b"reinit", b"dirty", b"grow-stop-copy", b"announce", b"dma")
        for value in (b"1e999", b"1e300", b"NaN", b"-1", b"9" * 30, b"9" * 5000, b'"x"', b"{}")
    ),
    b'{"do":"grow","device":"vf0","value":1}',
    b'{"do":"unrule","device":"vf0","number":{}}',
    b'{"do":"rule","device":"vf0"}',
    b'{"do":"rule","device":"vf0","rule":{"on":"reset","do":"delay","value":1e999}}',
    b'{"do":"rule","device":"vf0","rule":{"on":"reset","do":"delay","value":1e300}}',
    b'{"do":"rule","device":"vf0","rule":{"on":1,"do":"hold"}}',
    b'{"do":"rule","device":"vf0","rule":{"on":"reset","do":"fly"}}',
    b'{"do":"rule","device":"vf0","rule":{"on":"reset","do":"hold","states":1}}',
    b'{"do":"rule","device":"vf0","rule":{"on":"reset","do":"hold","nth":"x"}}',
    b'{"do":"rule","device":"vf0","rule":{"on":"reset","do":"hold","more":1}}',
]


def test_a_supervisor_answers_odd_requests_and_goes_on(two_devices: Path) -> None:
    connection = client.Client(two_devices)
    for packet in ODD:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as peer:
            peer.settimeout(SECONDS)
            peer.connect(str(two_devices))
            peer.send(packet)
            if packet:  # nothing is the same as a hang-up
                answer = json.loads(peer.recv(1 << 17))
                assert ("ok" if b"[[]]" in packet else "error") in answer, (packet[:80], answer)
        states = [one["state"] for one in connection.request("status")["devices"]]
        assert states == ["running"] * 2, packet[:80]
    connection.close()


def test_many_who_connect_do_not_take_the_descriptors(two_devices: Path) -> None:
    connection = client.Client(two_devices)
    with contextlib.ExitStack() as stack:
        for _ in range(200):
            peer = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
            peer.connect(str(two_devices))
        peer.settimeout(SECONDS)
        assert peer.recv(1) == b""  # it was sent away
        assert connection.request("status")["devices"]
    connection.close()


@pytest.mark.parametrize("answer", [b"{", b"[]", b'{"ok": 1}', b"{}", b'{"ok": {"devices": 1}}'])
def test_an_answer_without_sense_is_one_line(runtime_folder: Path, answer: bytes) -> None:
    path = runtime_folder / "s"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            with listener.accept()[0] as peer:
                peer.recv(1 << 17)
                peer.send(answer)

        server = threading.Thread(target=serve)
        server.start()
        done = vfio("ctl", "--socket", str(path), "status")
        server.join()
    assert done.returncode == 1
    assert done.stderr.startswith("qmptests: error: what answers at ")
    assert done.stderr.count("\n") == 1


def test_somebody_elses_socket_is_left_alone(runtime_folder: Path) -> None:
    """A stream socket is not one of ours, whatever its name."""
    other = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    other.bind(str(runtime_folder / "qmptests-vfio-1.sock"))
    other.listen()
    assert client.running() == []
    assert len(list(runtime_folder.iterdir())) == 1
    other.close()


@pytest.mark.parametrize("mode", [0o700, 0o1777])
def test_links_and_files_that_look_like_sockets_are_left_alone(
    runtime_folder: Path, tmp_path: Path, mode: int
) -> None:
    """Somebody may have put them there, with a name that means one of ours."""
    runtime_folder.chmod(mode)
    dead, link, file = (runtime_folder / f"qmptests-vfio-{n}.sock" for n in range(1, 4))
    elsewhere = runtime_folder / "service"
    client.listen(elsewhere).close()
    link.symlink_to(elsewhere)
    file.write_text("kept")
    client.listen(dead).close()
    assert client.running() == []
    assert sorted(runtime_folder.iterdir()) == sorted([link, file, elsewhere])


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_somebody_else_who_listens_is_not_one_of_ours(runtime_folder: Path) -> None:
    path = runtime_folder / "qmptests-vfio-1.sock"
    runtime_folder.chmod(0o777)
    code = f"""
import os, socket, sys
os.setresuid(65534, 65534, 65534)
listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
listener.bind({str(path)!r})
listener.listen()
print(flush=True)
sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout
        other.stdout.readline()
        assert client.running() == []
        os.chown(path, 0, 0)  # as a link to a socket of ours would have it
        assert client.running() == []
        other.communicate()
    assert client.running() == []
    assert not path.exists()


def test_events_are_one_line_each() -> None:
    assert words_of({"event": "state", "device": "vf0", "state": "stop"}) == "vf0 state stop"
    assert words_of({"event": "new", "x": 1}) == '- {"event": "new", "x": 1}'


# --- a migration by hand ------------------------------------------------------------------------


#: What a device is in when it has sent everything.
STOPPED = ("stop-copy", "stop")


@pytest.mark.parametrize(
    ("rule", "status", "verdict"),
    [
        ("", 0, "1048576 bytes arrived, right"),
        (",when=read+flip+in=stop-copy", 1, "1048576 bytes arrived, wrong: "),
    ],
)
def test_a_migration_by_hand_says_whether_the_data_was_right(
    qemu: Any, runtime_folder: Path, rule: str, status: int, verdict: str
) -> None:
    device = f"idle,stop_copy=1M{rule}"
    address = f"unix:{runtime_folder / 'm'}"
    target = qemu(["--side", "destination", "--device", device], "-incoming", address)
    source = qemu(["--side", "source", "--device", device])
    for vm in (target, source):
        events = {"capability": "events", "state": True}
        vm.execute("migrate-set-capabilities", capabilities=[events])
    source.execute("migrate", uri=address)
    target.until("MIGRATION", status="completed")
    source.until("MIGRATION", status="completed")
    for vm in (source, target):
        vm.send("quit")
    code, said = source.run.end()
    # QEMU cleans up after the migration, or is told to quit before.
    ends = [f"qmptests: vf0 ({device}): {state}; 1048576 bytes sent" for state in STOPPED]
    assert code == 0
    assert said[-1] in ends
    code, said = target.run.end()
    assert verdict in said[-1]
    assert code == status


def test_the_log_has_no_secret_of_the_command_line(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    ended = vfio(
        *("run", "--device", "idle", "--log", str(log), "--"),
        *("env", "TOKEN=0neSecret", "sh", "-c", 'test "$TOKEN" = 0neSecret', "sh"),
    )
    assert ended.returncode == 0, ended.stderr
    assert '"TOKEN=@QMPTESTS_SECRET_1@"' in log.read_text()
    assert "0neSecret" not in log.read_text()
