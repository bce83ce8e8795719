"""The builds that the user has added, by name."""

import contextlib
import re
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import msgspec

from qmptests import locking
from qmptests.builds.storage import DamagedError, builds_directory, read_json, replace
from qmptests.errors import EnvironmentFailure, InputError


class Record(msgspec.Struct, frozen=True):
    """One added build. What it can do is kept by its digest, not here."""

    name: str
    spec: str
    digest: str
    """Of a Debian suite's set of packages; that of anything else is looked up again each time."""


def check_name(name: str) -> str:
    """`name` if it can be a build's; raises InputError if not."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}", name):
        raise InputError(
            f"'{name}' can't be a build's name: letters, digits and . _ + - (64 at most), "
            "beginning with a letter or digit"
        )
    return name


def propose_name(version: str, label: str, taken: Collection[str]) -> str:
    """`version`; if that is taken, with `label`; and if that is too, with a number."""
    label = re.sub(r"[^A-Za-z0-9._+-]+", "_", label).strip("_") or "other"
    names = [version, f"{version}-{label}"[:60]]
    names += [f"{names[1]}-{number}" for number in range(2, len(taken) + 3)]
    return next(name for name in names if name not in taken)


def _directory() -> Path:
    return builds_directory() / "registered"


@contextlib.contextmanager
def changing(progress: Callable[[str], None]) -> Iterator[None]:
    """Hold the registry's lock, as `locking.held` does.

    Raises EnvironmentFailure where the cache can't be written.
    """
    try:
        with locking.held(_directory() / ".lock", "the list of builds", progress):
            yield
    except OSError as error:
        raise EnvironmentFailure(
            f"the build can't be noted in {_directory()} ({error.strerror}): free some space "
            "there, or set QMPTESTS_CACHE to a directory that can be written"
        ) from error


def records() -> list[Record]:
    """All added builds, by name in the order of their versions; `damaged` are not among them."""
    read = (_read(path) for path in _directory().glob("*.json"))
    found = [record for record in read if isinstance(record, Record)]
    return sorted(found, key=lambda record: version_order(record.name))


def damaged() -> list[str]:
    """The names of added builds of which nothing else is known, since their files are damaged."""
    paths = sorted(_directory().glob("*.json"))
    return [path.stem for path in paths if isinstance(_read(path), DamagedError)]


def _read(path: Path) -> Record | DamagedError | None:
    try:
        record = read_json(path, Record)
    except DamagedError as error:
        return error
    if record is not None and record.name != path.stem:
        return DamagedError(path)
    return record


def version_order(name: str) -> list[tuple[int, int | str]]:
    """A sort key that puts 9.2 before 10.0."""
    parts = re.findall(r"[0-9]+|[^0-9]+", name)
    return [(0, int(part)) if part[0] in "0123456789" else (1, part) for part in parts]


def find(name: str) -> Record | None:
    """The build with this name; raises EnvironmentFailure if its file is damaged."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]*", name):
        return None
    record = _read(_directory() / f"{name}.json")
    if isinstance(record, DamagedError):
        raise EnvironmentFailure(
            f"what is noted of the build {name} is damaged ({record.path}): `qmptests builds "
            f"remove {name}`, and add it again"
        ) from record
    return record


def put(record: Record) -> None:
    """Add or replace; hold `changing`."""
    replace(_directory() / f"{record.name}.json", record)


def drop(name: str) -> None:
    """Remove; hold `changing`."""
    (_directory() / f"{name}.json").unlink(missing_ok=True)
