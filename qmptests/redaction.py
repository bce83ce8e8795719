"""Secrets in what is kept of a run: passwords, keys and tokens are replaced by a name.

QEMU takes secrets in its command line (``-object secret,data=``, ``password=``), in addresses
(``iscsi://user%password@host``) and in QMP commands, and repeats them in its errors; a wrapper's
words and environment have others. What is found is `@QMPTESTS_SECRET_1@` from then on, in each text
of the run. What only names a secret stays: ``password-secret=ID``, ``file=PATH``. Standard library
only.

A value that stands by itself in a text is known if it was found in an argument or a command
before, and is not too short to be told from other words.
"""

import base64
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib import parse

#: Shorter values are hidden where they are given as secrets, but not wherever else they stand.
SHORTEST = 4
#: A line with more bytes is read in pieces, in which a secret may be cut in two.
_LONGEST_LINE = 1 << 24

_NAMES = (
    r"(?:pass(?:word|wd|phrase|code)|(?<=_)pwd|(?<![a-z])pass|sshpass|token|cookie|credentials?"
    r"|api[-_]?key|(?:access|private|secret|auth|encryption|signing)[-_]?key|secret"
    r"|(?<![a-z])psk)(?:[-_.]?(?:[0-9]+|value|data|string|base64|b64|hex|prod|dev|test))?"
)
#: The name of a value that is a secret; QEMU's ``...-secret`` is the id of one.
_SENSITIVE = re.compile(rf"(?:.*(?:{_NAMES}))", re.IGNORECASE | re.DOTALL)
_ID = re.compile(r"(?!--).*-secret", re.IGNORECASE | re.DOTALL)
#: Values of options such as ``-vnc :1,password=on``, and what is hidden already.
_NO_SECRET = re.compile(r"(?:on|off|yes|no|true|false|null|)|@QMPTESTS_SECRET_\d+@")

_QUOTED = r"'[^']*'|\"[^\"]*\""
_WORD = rf"(?:{_QUOTED}|[^\s'\",;&|]+)"
_OPTION = r"(?:,,|[^,])*"
#: Patterns of secrets in any text, the secret being the group `s`.
_ANYWHERE = [
    # systemd(1): of the kernel's command line
    r"systemd\.set_credential(?:_binary)?=[\w.-]+:(?P<s>(?:,,|[^\s,'\"])+)",
    # user:password@host; iSCSI has % instead; a token instead of both
    r"(?<![\w+.-])[a-z][\w+.-]*://[^\s/@:'\"]*:(?P<s>[^\s/@'\"]+)@",
    r"iscsi(?:\+\w+)?://[^\s/@:%'\"]*%(?P<s>[^\s/@'\"]+)@",
    r"(?:https?|ftps?)://(?P<s>[^\s/@:'\"]+)@",
    r"rbd:[^\s,]{0,999}?:key=(?P<s>(?:\\.|[^:\s,\\])+)",
    rf"authorization\s*[:=]\s*(?:(?:basic|bearer|token|digest)\s+)?(?P<s>{_WORD})",
    rf"\b(?:private|x(?:-\w+)*)-(?:token|api-key)\s*:\s*(?P<s>{_WORD})",
    rf"\bsshpass\s+-p\s*(?P<s>{_WORD})",
    r"\b(?:curl|wget)\s(?:[^|;&]{0,999}?\s)?(?:-u|-U|--user|--proxy-user)[\s=]*['\"]?[^\s:'\"]*"
    r":(?P<s>[^\s'\"]+)",
    rf"(?<![\w-])--[\w-]*(?:{_NAMES})\s+(?P<s>(?!-){_WORD})",
    rf"(?<![\w-])pass:(?P<s>{_WORD})",  # openssl -passin
    rf"\bset_password\s+\w+\s+(?P<s>{_WORD})",
    rf"\bchange\s+vnc\s+passw(?:or)?d\s+(?P<s>{_WORD})",
    # JSON inside of a text
    rf"\"(?P<name>[\w.-]*(?:{_NAMES}))\\?\"\s*:\s*\\?\"(?P<s>(?:\\.|[^\"\\])+)\"",
    r"\"(?:qom-type|type)\"\s*:\s*\"secret[^{}]{0,999}?\"data\"\s*:\s*\"(?P<s>(?:\\.|[^\"\\])+)\"",
    r"\"data\"\s*:\s*\"(?P<s>(?:\\.|[^\"\\])+)\"[^{}]{0,999}?\"(?:qom-type|type)\"\s*:\s*\"secret",
]
#: In an option of QEMU's, a whole argument, a value ends at a single comma.
_IN_OPTION = [
    rf"(?:^|,)(?P<name>[\w.-]*(?:{_NAMES}))=(?P<s>{_OPTION})",
    rf"io\.systemd\.credential(?:\.binary)?:[\w.-]+=(?P<s>{_OPTION})",
    rf"name=opt/io\.systemd\.credentials/[^,]*,string=(?P<s>{_OPTION})",
    # a file of the firmware, or a word of SMBIOS, by what it is called
    rf"(?:^|,)name=[^,]{{0,999}}?(?:{_NAMES})(?:\.[a-z0-9]+)?,string=(?P<s>{_OPTION})",
    rf"(?:^|,)value=[\w.-]{{0,999}}?(?:{_NAMES}):(?P<s>{_OPTION})",
]
#: In other text it ends at a blank, too.
_IN_TEXT = [
    rf"(?<![\w.-])(?P<name>[\w.-]*(?:{_NAMES}))=(?P<s>{_WORD})",
    r"(?<![\w.-])(?:qom-type=)?secret,[^\s'\"]{0,999}?\bdata=(?P<s>(?:,,|[^\s,'\"])+)",
    r"(?<![\w.-])data=(?P<s>(?:,,|[^\s,'\"]){1,999}),[^\s'\"]{0,999}?qom-type=secret\b",
    r"io\.systemd\.credential(?:\.binary)?:[\w.-]+=(?P<s>(?:,,|[^\s,'\"])+)",
]


def _compiled(patterns: Sequence[str]) -> list[re.Pattern[str]]:
    return [re.compile(pattern, re.IGNORECASE | re.DOTALL) for pattern in patterns]


_OPTION_PATTERNS = _compiled([*_IN_OPTION, *_ANYWHERE, *_IN_TEXT])
#: An object that is a secret, and where it has that.
_OBJECT = re.compile(r"(?:^|,)(?:qom-type=)?secret(?:,|$)")
_DATA = _compiled([rf"(?:^|,)data=(?P<s>{_OPTION})"])
_TEXT_PATTERNS = _compiled([*_ANYWHERE, *_IN_TEXT])
#: A variable of an environment, which is a whole word.
_VARIABLE = _compiled([rf"^(?P<name>\w*(?:{_NAMES}))=(?P<s>.+)$"])

#: What stands for a secret.
PLACEHOLDER = re.compile(r"@(QMPTESTS_SECRET_\d+)@")

#: Keys whose values are no text of outside but words of ours.
_OURS = frozenset(
    [
        "result",
        "expected",
        "name",
        "cell",
        "evidence",
        "trace",
        "last_phase",
        "phases",
        "status",
        "runstate",
        "schema",
    ]
)
#: Keys of lists that are command lines.
_COMMAND_LINES = frozenset(("argv", "args", "source_args", "destination_args", "wrapper"))


class Redaction:
    """The secrets of one run: found in arguments, hidden in all that is kept."""

    def __init__(self) -> None:
        #: Each secret as it stood in its argument, and its name.
        self._names: dict[str, str] = {}
        self._forms: dict[str, str] = {}
        self._pattern: re.Pattern[str] | None = None

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._names)

    def arguments(self, words: Sequence[str]) -> list[str]:
        """A command line without its secrets, which are known from now on."""
        hidden = list(words)
        for number, word in enumerate(hidden):
            before = hidden[number - 1] if number else ""
            hidden[number] = self._argument(word, before, hidden[:number])
        return hidden

    def _argument(self, word: str, before: str, left: Sequence[str]) -> str:
        option = re.fullmatch(rf"-[\w-]*(?:{_NAMES})", before, re.IGNORECASE)
        if option and not word.startswith("-") and not _is_exempt(before, word):
            return self._name(word)
        programs = {Path(program).name for program in left}
        if "sshpass" in programs:
            if before == "-p" and left[-2:-1] and Path(left[-2]).name == "sshpass":
                return self._name(word)
            if word.startswith("-p") and len(word) > 2 and Path(before).name == "sshpass":
                return "-p" + self._name(word[2:])
        if programs & {"curl", "wget"} and (
            before in ("-u", "-U", "--user", "--proxy-user")
            or word.startswith(("--user=", "--proxy-user="))
        ):
            user, colon, password = word.partition(":")
            return user + colon + (self._name(password) if password else "")
        if word.startswith("{"):
            parsed = _parsed(word)
            if parsed is not None:
                hidden = self.tree(parsed)
                return word if hidden == parsed else json.dumps(hidden)
        if left and not before.startswith("-"):
            word = self._found(word, _VARIABLE)
        return self._option(word)

    def text(self, text: str) -> str:
        """Any text, without the secrets that are known or can be seen in it."""
        return self._known(self._found(text, _TEXT_PATTERNS))

    def message(self, message: dict[str, Any]) -> dict[str, Any]:
        """A QMP command that is sent: its secrets are known from now on."""
        hidden: dict[str, Any] = self.tree(message)
        return hidden

    def tree(self, value: Any, key: str = "") -> Any:
        """What JSON can hold, by its keys and its texts."""
        if isinstance(value, str):
            if _SENSITIVE.fullmatch(key) and not _is_exempt(key, value):
                return self._name(value)
            return self._option(value)
        if isinstance(value, list):
            if key in _COMMAND_LINES and all(isinstance(word, str) for word in value):
                return self.arguments(value)
            return [self.tree(item, key) for item in value]
        if isinstance(value, dict):
            return {name: self._member(value, name, inner) for name, inner in value.items()}
        return value

    def _member(self, whole: dict[str, Any], name: str, value: Any) -> Any:
        if name in _OURS:
            return value
        if isinstance(value, dict) and name == "props" and "data" in value and _is_secret(whole):
            value = {**value, "data": self.tree(str(value["data"]), "password")}
        if name == "data" and isinstance(value, str) and _is_secret(whole):
            return self.tree(value, "password")
        prop = str(whole.get("property", ""))
        if name == "value" and (prop == "data" or _SENSITIVE.fullmatch(prop)):
            return self.tree(value, "password" if not _ID.fullmatch(prop) else "")
        return self.tree(value, name)

    def file(self, path: Path, *, seen: bool = False) -> None:
        """Hide what is known in a file of lines, with `seen` also what can be seen in them.

        Raises OSError, and leaves the file as it was then.
        """
        new = path.with_name(f"{path.name}.new")
        changed = False
        try:
            with path.open("rb") as old, new.open("xb") as file:
                while line := old.readline(_LONGEST_LINE):
                    text = line.decode(errors="surrogateescape")
                    hidden = self.text(text) if seen else self._known(text)
                    changed |= hidden != text
                    file.write(hidden.encode(errors="surrogateescape"))
            if changed:
                new.chmod(path.stat().st_mode & 0o777)
                new.replace(path)
        finally:
            new.unlink(missing_ok=True)

    def _option(self, text: str) -> str:
        """An option of QEMU's, or what may be one."""
        if _OBJECT.search(text):
            text = self._found(text, _DATA)
        return self._known(self._found(text, _OPTION_PATTERNS))

    def _found(self, text: str, patterns: Sequence[re.Pattern[str]]) -> str:
        for pattern in patterns:
            text = pattern.sub(self._replaced, text)
        return text

    def _replaced(self, match: re.Match[str]) -> str:
        whole, secret = match[0], match["s"]
        name = match.groupdict().get("name") or ""
        if _is_exempt(name, secret):
            return whole
        at = match.start("s") - match.start()
        if len(secret) > 2 and secret[0] == secret[-1] and secret[0] in "'\"":
            secret, at = secret[1:-1], at + 1
        return whole[:at] + self._name(secret) + whole[at + len(secret) :]

    def _known(self, text: str) -> str:
        if self._pattern is None:
            return text
        return self._pattern.sub(lambda match: self._forms[match[0]], text)

    def _name(self, secret: str) -> str:
        """What stands for it; it is known from now on."""
        if _NO_SECRET.fullmatch(secret) or "@QMPTESTS_SECRET_" in secret:
            return secret
        known = self._names.get(secret) or self._forms.get(secret)
        if known is None:
            known = self._names[secret] = f"@QMPTESTS_SECRET_{len(self._names) + 1}@"
            for form in _forms(secret):
                if len(form) >= SHORTEST:
                    self._forms.setdefault(form, known)
            if self._forms:
                ordered = sorted(self._forms, key=len, reverse=True)
                self._pattern = re.compile("|".join(map(re.escape, ordered)))
        return known


def _is_exempt(name: str, value: str) -> bool:
    return bool(_ID.fullmatch(name) or _NO_SECRET.fullmatch(value))


def _is_secret(whole: dict[str, Any]) -> bool:
    """Whether it describes an object of QEMU's that is a secret."""
    return str(whole.get("qom-type", whole.get("type", ""))).startswith("secret")


def _forms(secret: str) -> Iterator[str]:
    """A secret as it can stand elsewhere: without quotes, without an option's doubled commas, of
    and in an address, in JSON, as a shell or Python writes it, and in base64."""
    unquoted = (secret, secret.strip("'\""), secret.replace(",,", ","), parse.unquote(secret))
    for plain in dict.fromkeys(unquoted):
        yield plain
        yield json.dumps(plain)[1:-1]
        yield json.dumps(plain, ensure_ascii=False)[1:-1]
        yield plain.replace("'", "'\"'\"'")
        yield repr(plain)[1:-1]
        data = plain.encode(errors="surrogateescape")
        yield parse.quote(data, safe="")
        yield base64.b64encode(data).decode().rstrip("=")


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None
