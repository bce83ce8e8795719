"""apt with a state of its own: it resolves and downloads, and changes nothing of the system.

The machine's apt configuration stays in force where it says how to reach a mirror (proxies,
credentials, time-outs); what it says about this system's packages (pins, hooks, other
architectures) does not apply. The options are those of apt.conf(5) and sources.list(5).
"""

import re
import shutil
import subprocess
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from urllib.parse import unquote

import msgspec

from qmptests.errors import EnvironmentFailure, InputError, QmptestsError
from qmptests.packages import command, sources

HELPER = "/usr/lib/apt/apt-helper"

_CONFIGURATION = """\
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear APT::Architectures;
APT::Architectures {{ "{architecture}"; }};
APT::Default-Release "{release}";
APT::Install-Recommends "false";
APT::Sandbox::User "";
Acquire::AllowReleaseInfoChange "true";
Acquire::ForceHash "SHA256";
Acquire::GzipIndexes "false";
Acquire::Languages "none";
Acquire::PDiffs "false";
Acquire::Retries "2";
Debug::NoLocking "true";
Dir::Cache "{work}";
Dir::Cache::pkgcache "pkgcache.bin";
Dir::Cache::srcpkgcache "";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "-";
Dir::Etc::sourcelist "{work}/apt.sources";
Dir::Etc::sourceparts "-";
Dir::State "{work}";
Dir::State::lists "{lists}";
Dir::State::status "{work}/status";
"""


class Machine(msgspec.Struct, frozen=True):
    """What this machine's apt is configured to use."""

    architecture: str
    main: str
    parts: str


class Download(msgspec.Struct, frozen=True):
    """A package file that the resolver chose, vouched for by the archive's signature."""

    uri: str
    name: str
    version: str
    size: int
    """Bytes."""
    sha256: str


@cache
def machine() -> Machine:
    """Ask apt for its configuration; raises EnvironmentFailure where there is no apt."""
    if not (shutil.which("apt-get") and shutil.which("apt-config") and shutil.which("dpkg-deb")):
        raise EnvironmentFailure(
            "this machine has no apt-get, so debian:SUITE can't be fetched: "
            "name a QEMU binary's path or a QEMU build tree instead"
        )
    wanted = ["MAIN", "Dir::Etc::sourcelist/f", "PARTS", "Dir::Etc::sourceparts/d"]
    try:
        text = subprocess.run(
            ["apt-config", "shell", *wanted, "ARCH", "APT::Architecture"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise EnvironmentFailure(f"apt-config doesn't answer: {error}") from error
    found = sources.parse_shell_assignments(text)
    return Machine(
        found.get("ARCH", "amd64"),
        found.get("MAIN", "/etc/apt/sources.list"),
        found.get("PARTS", "/etc/apt/sources.list.d/"),
    )


class PrivateApt:
    """apt for one suite, its package lists in `lists`, everything else in `work`.

    `work` is the caller's temporary directory; `lock` the store's lock, which must be held.
    """

    def __init__(self, suite: str, *, lists: Path, work: Path, lock: int) -> None:
        host = machine()
        archive = sources.require_archive(Path(host.main), Path(host.parts))
        self._suite = suite
        self._lists = lists
        self._lock = lock
        self._mirror = archive.uris[0]
        (lists / "partial").mkdir(parents=True, exist_ok=True)
        (work / "archives" / "partial").mkdir(parents=True, exist_ok=True)
        (work / "status").touch()
        (work / "apt.sources").write_text(sources.write_sources(archive, suite, host.architecture))
        release = suite if sources.base_suite(suite) != suite else ""
        self._configuration = work / "apt.conf"
        self._configuration.write_text(
            _CONFIGURATION.format(
                architecture=host.architecture, release=release, work=work, lists=lists
            )
        )

    def has_lists(self) -> bool:
        """Whether package lists of all the suite's sources are there from an earlier update."""
        bases = {self._suite, sources.base_suite(self._suite)}
        releases = [path.name for path in self._lists.glob("*Release")]
        return all(any(f"_dists_{suite}_" in name for name in releases) for suite in bases)

    def update(self) -> None:
        """Fetch the package lists anew and check their signatures."""
        done = self._run("apt-get", "update", "-q", "--error-on=any")
        if done.status != 0:
            error = failure(done.output, self._suite, self._mirror)
            if isinstance(error, Superseded):  # not even the lists are there
                error = _no_such_suite(self._suite, self._mirror)
            raise error

    def resolve(self, packages: Sequence[str]) -> list[Download]:
        """All package files that `packages` need on an empty system, in apt's own judgement."""
        done = self._run("apt-get", "install", "-y", "-q", "--print-uris", "--", *packages)
        if done.status != 0:
            raise failure(done.output, self._suite, self._mirror)
        return parse_uris(done.output)

    def download(
        self, wanted: Sequence[tuple[Download, Path]], on_file: Callable[[int], None]
    ) -> None:
        """Download each file to its path, checked against its hash; `on_file` gets the count."""
        count = 0

        def on_line(line: str) -> None:
            nonlocal count
            if line.startswith("Get:"):
                count += 1
                on_file(count)

        arguments: list[str] = []
        for item, path in wanted:
            arguments += [item.uri, str(path), f"SHA256:{item.sha256}"]
        done = self._run(HELPER, "-q", "download-file", *arguments, on_line=on_line)
        if done.status != 0:
            raise failure(done.output, self._suite, self._mirror)

    def _run(
        self, tool: str, *arguments: str, on_line: Callable[[str], None] | None = None
    ) -> command.Finished:
        argv = [tool, "-c", str(self._configuration), *arguments]
        return command.run(argv, lock=self._lock, on_line=on_line)


def ask_mirror(archive: sources.Archive, scratch: Path) -> str:
    """Whether the mirror answers: why it does not, or the empty text. Takes ten seconds at most.

    What it answers is written into the folder `scratch`.
    """
    options = ("-q", "-o", "Acquire::Retries=0", "-o", "Acquire::http::Timeout=5")
    uri = archive.uris[0].rstrip("/") + "/dists/stable/Release"
    done = command.run([HELPER, *options, "download-file", uri, str(scratch / "Release")])
    complaints = [line for line in done.output.splitlines() if line.startswith("E: ")]
    return "" if done.status == 0 else (complaints or ["no answer"])[0].removeprefix("E: ")


def parse_uris(text: str) -> list[Download]:
    """The files in the output of `apt-get --print-uris`.

    `'URI' NAME_VERSION_ARCHITECTURE.deb SIZE SHA256:HASH`, colons in a version written `%3a`.
    """
    found = []
    for line in text.splitlines():
        matched = re.fullmatch(r"'([^']+)' (\S+)\.deb (\d+) SHA256:([0-9a-f]{64})", line.strip())
        if matched:
            uri, file, size, sha256 = matched.groups()
            name, _, rest = file.partition("_")
            version = unquote(rest.rpartition("_")[0])
            found.append(Download(uri, name, version, int(size), sha256))
    return found


class Superseded(EnvironmentFailure):
    """The mirror no longer has a file that the package lists name: they are out of date."""


def _no_such_suite(suite: str, mirror: str) -> QmptestsError:
    return InputError(
        f"debian:{suite}: the mirror {mirror} has no such suite; most have, for example, "
        "debian:trixie, debian:trixie-backports and debian:sid"
    )


def failure(output: str, suite: str, mirror: str) -> QmptestsError:
    """The one line that says what apt's complaints come down to."""
    complaints = [line[3:].strip() for line in output.splitlines() if line[:3] in ("E: ", "W: ")]
    whole = output.lower()
    if "no space left on device" in whole or "enough free space" in whole:
        return EnvironmentFailure(
            "the disk under the cache is full: free some space there, or set QMPTESTS_CACHE "
            "to a directory on another disk"
        )
    if "does not have a release file" in whole:
        return _no_such_suite(suite, mirror)
    if located := re.search(r"unable to locate package (\S+)", whole):
        return InputError(f"debian:{suite} has no package {located[1]}")
    if "is not valid for '-t'" in whole or "is invalid for apt::default-release" in whole:
        return _no_such_suite(suite, mirror)
    if "no_pubkey" in whole or "is not signed" in whole:
        return EnvironmentFailure(
            f"debian:{suite}: the signature of {mirror} can't be checked with this machine's "
            "keyring: install a newer debian-archive-keyring"
        )
    if "hash sum mismatch" in whole or "hashes of expected file" in whole:
        return EnvironmentFailure(
            f"debian:{suite}: a download from {mirror} was corrupted (its hash is wrong), nothing "
            "of it was kept: try again"
        )
    if unreachable := re.search(
        r"(could not resolve|temporary failure resolving|could not connect|cannot initiate"
        r"|connection timed out|connection failed|unable to connect)[^\n]*",
        output,
        re.IGNORECASE,
    ):
        return EnvironmentFailure(
            f"debian:{suite}: the mirror {mirror} can't be reached ({unreachable[0].strip()}); "
            "what is in the cache already works without a network"
        )
    if re.search(r"\b404\b", output):
        return Superseded(f"debian:{suite}: the package lists are out of date: add --refresh")
    why = complaints[0] if complaints else (output.strip().splitlines() or ["no message"])[-1]
    return EnvironmentFailure(f"debian:{suite}: apt failed: {why}")
