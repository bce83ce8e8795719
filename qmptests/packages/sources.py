"""Find the Debian archive among the machine's own apt sources.

Both of apt's formats are read: one-line `*.list` files and deb822 `*.sources` files, as
sources.list(5) defines them. Repositories of anybody but Debian are passed over.
"""

import contextlib
import re
import shlex
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from qmptests.errors import EnvironmentFailure

DEBIAN_KEYRINGS = (
    Path("/usr/share/keyrings/debian-archive-keyring.gpg"),
    Path("/usr/share/keyrings/debian-archive-keyring.pgp"),
)


class Entry(msgspec.Struct, frozen=True):
    """One source of binary packages, whichever format it was written in."""

    uris: tuple[str, ...]
    suites: tuple[str, ...]
    components: tuple[str, ...]
    options: dict[str, str]
    """Its other fields with lower-case names as deb822 has them, such as `signed-by`."""


class Archive(msgspec.Struct, frozen=True):
    """Where Debian's packages come from on this machine."""

    uris: tuple[str, ...]
    options: dict[str, str]
    security: Entry | None
    """The source of the `-security` suites, which has an address of its own, if there is one."""


def parse_one_line(text: str) -> Iterator[Entry]:
    """The entries of a `sources.list`; lines that are malformed are passed over, as comments are.

    `deb [signed-by=FILE option=value] URI SUITE COMPONENT...`
    """
    for line in text.splitlines():
        matched = re.match(r"\s*deb\s+(?:\[([^]]*)\]\s*)?([^#]*)", line)
        if not matched:
            continue
        words = matched[2].split()
        if len(words) < 2:
            continue
        options = {}
        for option in (matched[1] or "").split():
            key, equals, value = option.partition("=")
            if equals:
                options[key.rstrip("+-").lower()] = value.replace(",", " ")
        yield Entry((words[0],), (words[1],), tuple(words[2:]), options)


def parse_deb822(text: str) -> Iterator[Entry]:
    """The enabled binary entries of a `*.sources` file; incomplete stanzas are passed over."""
    for stanza in re.split(r"\n[ \t]*\n", text.replace("\r\n", "\n")):
        fields: dict[str, str] = {}
        last = ""
        for line in stanza.splitlines():
            if line.startswith("#"):
                continue
            if line[:1] in (" ", "\t"):
                if last:
                    fields[last] += "\n" + line
                continue
            key, colon, value = line.partition(":")
            if colon:
                last = key.strip().lower()
                fields[last] = value.strip()
        uris = tuple(fields.pop("uris", "").split())
        suites = tuple(fields.pop("suites", "").split())
        components = tuple(fields.pop("components", "").split())
        enabled = fields.pop("enabled", "yes").lower() not in ("no", "false", "0", "off", "without")
        if "deb" in fields.pop("types", "").split() and enabled and uris and suites:
            yield Entry(uris, suites, components, fields)


def read_entries(main: Path, parts: Path) -> list[Entry]:
    """All entries of `main` (sources.list) and of the files in `parts`, in apt's order."""
    files = [main]
    with contextlib.suppress(OSError):  # a machine may well lack the directory
        files += sorted(path for path in parts.iterdir() if path.suffix in (".list", ".sources"))
    entries: list[Entry] = []
    for path in files:
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue  # absent, or one with credentials that is not for us to read
        entries += (parse_deb822 if path.suffix == ".sources" else parse_one_line)(text)
    return entries


def likelihood(entry: Entry) -> int:
    """How surely `entry` is a mirror of Debian's main archive: 0 is not at all, 3 is certain.

    The signing key decides where one is named; else the address does. Many third parties end
    their address in `/debian` too, so a key of their own or a path of their own rules them out.
    """
    if "main" not in entry.components or any("/" in suite for suite in entry.suites):
        return 0
    if any(suite.endswith("-security") for suite in entry.suites):
        return 0
    address = urlsplit(entry.uris[0])
    if address.scheme == "cdrom":
        return 0
    path = [part for part in address.path.split("/") if part]
    last = path[-1] if path else ""
    named = bool(re.fullmatch(r"debian([-_.].*)?", last)) and not re.match(
        r"debian[-_](security|debug|ports)", last
    )
    official = (address.hostname or "").endswith("debian.org") and "debian" in path
    signer = entry.options.get("signed-by", "")
    if signer:
        if "debian-archive" in signer and (named or official):
            return 3
        # A whole key may stand in the entry itself: whose it is can't be seen from its text.
        return 2 if "PGP PUBLIC KEY" in signer and official else 0
    if official:
        return 3
    if named:
        return 2 if len(path) == 1 or address.scheme.startswith("mirror+") else 1
    return 0


def is_security(entry: Entry) -> bool:
    """Whether `entry` is a mirror of Debian's security archive."""
    signer = entry.options.get("signed-by", "debian-archive")
    return (
        "main" in entry.components
        and any(suite.endswith("-security") for suite in entry.suites)
        and "debian-security" in entry.uris[0]
        and "debian-archive" in signer
    )


def find_archive(entries: Iterable[Entry]) -> Archive | None:
    """The entry that is most surely the Debian archive, the first one among equals."""
    entries = list(entries)
    best = max(entries, key=likelihood, default=None)
    if best is None or likelihood(best) == 0:
        return None
    security = next((entry for entry in entries if is_security(entry)), None)
    return Archive(best.uris, _kept_options(best), security)


def require_archive(main: Path, parts: Path) -> Archive:
    """The machine's Debian archive.

    Raises EnvironmentFailure on a machine that has none, such as one that runs Ubuntu.
    """
    archive = find_archive(read_entries(main, parts))
    if archive is None:
        raise EnvironmentFailure(
            f"no Debian archive among this machine's apt sources ({main}, {parts}): add one there "
            "(with the package debian-archive-keyring), or name a QEMU binary or build tree instead"
        )
    return archive


def base_suite(suite: str) -> str:
    """The suite whose packages `suite` needs beside its own; itself if it stands alone.

    `trixie-backports` is built on `trixie`, `experimental` on `sid`.
    """
    if suite in ("experimental", "rc-buggy"):
        return "sid"
    return suite.partition("-")[0]


def write_sources(archive: Archive, suite: str, architecture: str) -> str:
    """A deb822 `sources` file for `suite` and its base, of packages of `architecture` alone."""
    base = base_suite(suite)
    stanzas = [_stanza(archive.uris, base, architecture, archive.options)]
    if suite != base:
        uris, options = archive.uris, archive.options
        if suite.endswith("-security") and archive.security is not None:
            uris, options = archive.security.uris, _kept_options(archive.security)
        stanzas.append(_stanza(uris, suite, architecture, options))
    return "\n".join(stanzas)


def _kept_options(entry: Entry) -> dict[str, str]:
    """What an entry says about trust, with Debian's own keyring where it names no key."""
    kept = ("signed-by", "trusted", "check-valid-until", "valid-until-max", "check-date")
    options = {key: value for key, value in entry.options.items() if key in kept}
    if "signed-by" not in options:
        keyring = next((path for path in DEBIAN_KEYRINGS if path.exists()), None)
        if keyring is not None:
            options["signed-by"] = str(keyring)
    return options


def _stanza(uris: Iterable[str], suite: str, architecture: str, options: dict[str, str]) -> str:
    lines = [
        "Types: deb",
        "URIs: " + " ".join(uris),
        f"Suites: {suite}",
        "Components: main",
        f"Architectures: {architecture}",
        "Targets: Packages",
    ]
    lines += [f"{key.title()}: {value}" for key, value in options.items()]
    return "\n".join(lines) + "\n"


def parse_shell_assignments(text: str) -> dict[str, str]:
    """The `NAME='value'` lines that `apt-config shell` prints."""
    found = {}
    for word in shlex.split(text):
        key, equals, value = word.partition("=")
        if equals:
            found[key] = value
    return found
