"""From what names a build to how it is launched."""

import contextlib
import hashlib
import json
import os
import platform
import re
import stat
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from qmptests import packages
from qmptests.builds.build import Build
from qmptests.builds.spec import Binary, BuildTree, Suite
from qmptests.builds.storage import builds_directory, recall, write_json
from qmptests.errors import EnvironmentFailure, InputError

PACKAGE = "qemu-system-x86"
BINARY = "qemu-system-x86_64"

#: Of each host architecture: Debian's library directory (the multiarch tuple), the loader's name
#: and the directory that the architecture's ABI puts it in.
_LIBRARIES = {
    "x86_64": ("x86_64-linux-gnu", "ld-linux-x86-64.so.2", "lib64"),
    "aarch64": ("aarch64-linux-gnu", "ld-linux-aarch64.so.1", "lib"),
}

#: The packages whose versions say most about a build.
_TELLING = (PACKAGE, "qemu-system-common", "qemu-system-data", "seabios", "ipxe-qemu", "libc6")


class Located(msgspec.Struct, frozen=True):
    """A build before it was probed: see `Build` for the fields."""

    binary: Path
    argv: tuple[str, ...]
    env: dict[str, str]
    origin: dict[str, str]
    digest: str
    label: str
    """What tells it from another build of the same version: the suite or a directory's name."""


def from_suite(
    spec: Suite, *, progress: Callable[[str], None], refresh: bool = False, repair: bool = False
) -> Located:
    """Fetch a Debian suite's QEMU, or find it in the cache; `repair` one that is damaged there."""
    return from_tree(
        packages.fetch(spec.suite, [PACKAGE], progress=progress, refresh=refresh, repair=repair),
        spec.suite,
    )


def from_tree(tree: packages.Tree, suite: str) -> Located:
    """How the QEMU of an unpacked tree runs: by the tree's own loader, libraries and firmware."""
    if platform.machine() not in _LIBRARIES:
        raise EnvironmentFailure(
            f"debian:{suite} can't run on {platform.machine()}: name a QEMU binary's path instead"
        )
    if what := packages.damage(tree):
        raise EnvironmentFailure(
            f"the build is damaged: {what}; `qmptests builds remove debian:{suite}`, and "
            f"`qmptests builds add debian:{suite}` again"
        )
    tuple_name, loader_name, abi_folder = _LIBRARIES[platform.machine()]
    root = tree.root
    # Suites before trixie ship some libraries in /lib, which only an installed system merges.
    libraries = [
        root / prefix / "lib" / tuple_name
        for prefix in ("usr", ".")
        if (root / prefix / "lib" / tuple_name).is_dir()
    ]
    loader = _own_file(
        root,
        [
            place / loader_name
            for place in (root / "usr" / abi_folder, root / abi_folder, *libraries)
        ],
    )
    binary = root / "usr" / "bin" / BINARY
    if loader is None or not binary.exists():
        raise EnvironmentFailure(
            f"debian:{suite}: the unpacked packages in {root} lack {BINARY} or its loader: "
            "remove the build and add it again"
        )
    firmware = [
        root / "usr" / folder
        for folder in ("share/qemu", "share/seabios", "lib/ipxe/qemu")
        if (root / "usr" / folder).is_dir()
    ]
    origin = {"kind": "debian", "suite": suite}
    origin |= {name: version for name in _TELLING if (version := tree.version(name))}
    return Located(
        binary=binary,
        argv=(
            str(loader),
            "--library-path",
            ":".join(os.path.normpath(path) for path in libraries),
            str(binary),
            *(word for folder in firmware for word in ("-L", str(folder))),
        ),
        env={"QEMU_MODULE_DIR": str(root / "usr" / "lib" / tuple_name / "qemu")},
        origin=origin,
        digest=tree.digest,
        label=suite,
    )


def _own_file(root: Path, candidates: Sequence[Path]) -> Path | None:
    """The first that is a file of the tree itself.

    Bookworm's /lib64 holds an absolute link to the loader, which means the host's from in here:
    another libc's loader, under which nothing works.
    """
    inside = root.resolve()
    for path in candidates:
        if path.exists() and path.resolve().is_relative_to(inside):
            return path
    return None


def from_binary(spec: Binary) -> Located:
    """An installed QEMU."""
    return Located(
        binary=spec.path,
        argv=(str(spec.path),),
        env={},
        origin={"kind": "binary", "path": str(spec.path.resolve())},
        digest=digest_of(spec.path),
        label=spec.path.parent.name if spec.path.parent.name != "bin" else "installed",
    )


def from_build_tree(spec: BuildTree) -> Located:
    """A QEMU where it was built, with the firmware of its own sources."""
    source, configure = configured(spec.folder)
    # Built option ROMs are in the build's pc-bios, the blobs that come with QEMU in the source's.
    firmware = [place / "pc-bios" for place in (spec.folder, source) if place is not None]
    origin = {"kind": "build tree", "path": str(spec.path)}
    if source is not None:
        origin["source"] = str(source)
        if described := git_describe(source):
            origin["git"] = described
    if configure:
        origin["configure"] = configure
    return Located(
        binary=spec.path,
        argv=(
            str(spec.path),
            *(word for place in firmware if place.is_dir() for word in ("-L", str(place))),
        ),
        env={},
        origin=origin,
        digest=digest_of(spec.path),
        label=(source or spec.folder).name,
    )


def configured(folder: Path) -> tuple[Path | None, str]:
    """A build directory's source directory (None if unknown) and its configure line.

    QEMU's configure ends `config.status` with the command that runs it again; meson notes the
    source directory in `meson-info/meson-info.json`.
    """
    source: Path | None = None
    line = ""
    try:
        text = (folder / "config.status").read_text(errors="replace")
    except OSError:
        text = ""
    if matched := re.search(r"^exec (.*?)(?: \"\$@\")?$", text, re.MULTILINE):
        line = matched[1].strip()
        if program := re.match(r"'?([^' ]+)/configure\b", line):
            source = (folder / program[1]).resolve()
    try:
        noted = json.loads((folder / "meson-info" / "meson-info.json").read_text())
        source = Path(noted["directories"]["source"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    if source is None and (folder.parent / "pc-bios").is_dir():
        source = folder.parent
    return (source if source and source.is_dir() else None), line


def git_describe(source: Path) -> str:
    """`git describe --dirty --always`, or the empty text where git has nothing to say."""
    try:
        done = subprocess.run(
            ["git", "-C", str(source), "describe", "--dirty", "--always"],
            capture_output=True,
            text=True,
            timeout=30,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


class _Seen(msgspec.Struct, frozen=True):
    state: list[int]
    digest: str


def digest_of(path: Path) -> str:
    """The digest of a binary's content, remembered as long as the file stays untouched."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # a device or a pipe would be read for ever
            raise InputError(f"{path} is no file: name a QEMU binary")
        state = [status.st_mtime_ns, status.st_ctime_ns, status.st_size]
        state += [status.st_ino, status.st_dev]
        name = hashlib.sha256(os.fsencode(path)).hexdigest()[:32]
        note = builds_directory() / "seen" / f"{name}.json"
        seen = recall(note, _Seen)
        if seen is not None and seen.state == state:
            return seen.digest
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()[:32]
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror}") from error
    write_json(note, _Seen(state, digest))
    if seen is not None and seen.digest != digest:
        _forget_content(seen.digest)
    return digest


def damage(build: Build | Located) -> str:
    """What became of a build's files since it was resolved, in words; "" if nothing did.

    Those of a Debian suite are read, and must be those of its packages.
    """
    if build.origin.get("kind") != "debian":
        try:
            changed = digest_of(build.binary) != build.digest
        except InputError as error:
            return str(error)
        return f"{build.binary} was replaced while it was used" if changed else ""
    tree = packages.find(build.origin["suite"], build.digest)
    if tree is None:
        return "its packages are gone from the cache"
    return packages.damage(tree, content=True)


def is_same_binary(a: Build, b: Build) -> bool:
    """Whether two builds, whatever they are called, run the same QEMU byte for byte."""
    if a.digest == b.digest:
        return True
    if "debian" not in (a.origin.get("kind"), b.origin.get("kind")):
        return False  # their digests are those of their binaries
    try:
        return digest_of(a.binary) == digest_of(b.binary)
    except InputError:
        return False


def _forget_content(digest: str) -> None:
    """Drop what was found out about a binary that was rebuilt; another copy is probed anew."""
    for name in ("facts", "accelerators"):
        for path in (builds_directory() / name).glob(f"{digest}*.json"):
            with contextlib.suppress(OSError):
                path.unlink()
