"""What a build can be named by: `debian:SUITE`, a binary, a source or build tree."""

import contextlib
import os
import platform
import shutil
from pathlib import Path

import msgspec

from qmptests.errors import InputError


class Suite(msgspec.Struct, frozen=True):
    """A Debian suite's QEMU."""

    suite: str

    def __str__(self) -> str:
        return f"debian:{self.suite}"


class Binary(msgspec.Struct, frozen=True):
    """A QEMU binary that finds its firmware by itself, as an installed one does."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)


class BuildTree(msgspec.Struct, frozen=True):
    """A QEMU that was built and not installed."""

    folder: Path
    """Where it was built."""
    path: Path
    """The binary."""

    def __str__(self) -> str:
        return str(self.path)


Spec = Suite | Binary | BuildTree


def native_binary_name() -> str:
    """The QEMU that emulates this machine's own architecture."""
    return f"qemu-system-{platform.machine()}"


def parse(text: str) -> Spec:
    """What `text` names; empty: the first QEMU on PATH, this architecture's before others.

    Raises InputError where nothing is found.
    """
    if not text:
        return _on_path()
    if text.startswith("debian:"):
        return Suite(text.removeprefix("debian:"))
    try:
        path = Path(text).expanduser()
        if path.is_dir():
            return _in_directory(path.absolute(), text)
        if path.exists():
            return _as_file(path.absolute())
    except PermissionError as error:
        raise InputError(f"'{text}' can't be looked at: {error.strerror}") from error
    except (OSError, RuntimeError, ValueError):
        pass  # a name too long, a home of nobody, a zero byte: no file in any case
    if "/" not in text and "\0" not in text and (found := shutil.which(text)):
        return _as_file(Path(found).absolute())
    raise InputError(
        f"'{text}' is no registered build, and no file or directory either: write debian:SUITE, "
        "a QEMU binary's path, or a QEMU source or build tree"
    )


def on_path() -> list[Path]:
    """Every QEMU on PATH, in the order in which a shell finds them."""
    found: dict[str, Path] = {}
    for folder in os.get_exec_path():
        with contextlib.suppress(OSError):  # PATH may name directories that are not there, or ours
            for path in sorted(Path(folder).glob("qemu-system-*")):
                if os.access(path, os.X_OK) and path.is_file():
                    found.setdefault(path.name, path.absolute())
    return list(found.values())


def _on_path() -> Binary | BuildTree:
    found = on_path()
    native = [path for path in found if path.name == native_binary_name()]
    if not found:
        raise InputError(
            "there is no qemu-system-* on PATH: name a build, such as debian:trixie, a QEMU "
            "binary's path, or a QEMU source or build tree"
        )
    return _as_file((native or found)[0])


def _as_file(path: Path) -> Binary | BuildTree:
    """A binary by itself, or one that still is where it was built."""
    real = path.resolve()
    if is_build_directory(real.parent):
        return BuildTree(real.parent, real)
    return Binary(path)


def is_build_directory(folder: Path) -> bool:
    """Whether QEMU was configured in this directory."""
    marks = ("config.status", "meson-info", "qemu-bundle", "build.ninja")
    return any((folder / mark).exists() for mark in marks)


def _in_directory(folder: Path, text: str) -> BuildTree:
    for place in (folder, folder / "build"):
        binaries = sorted(
            path
            for path in place.glob("qemu-system-*")
            # Some variants end in ".p" (objects) or "-unsigned"; the former are directories.
            if path.is_file() and os.access(path, os.X_OK) and "." not in path.name
        )
        native = [path for path in binaries if path.name == native_binary_name()]
        if native or len(binaries) == 1:
            return BuildTree(place.resolve(), (native or binaries)[0].resolve())
        if binaries:
            names = ", ".join(path.name for path in binaries)
            raise InputError(f"{text} has several QEMU binaries, name one by its path: {names}")
    raise InputError(
        f"{text} has no qemu-system-* in it, nor in its build/ directory: build QEMU there first, "
        "or name the directory where it was built"
    )
