"""TOML files that come with qmptests, by name, and one's own, by path."""

from importlib import resources
from pathlib import Path
from typing import NamedTuple

from qmptests import toml
from qmptests.errors import InputError


class Source(NamedTuple):
    """A file's text, what errors call it, and the name of what it describes."""

    text: str
    where: str
    name: str


def names(package: str) -> list[str]:
    """The names of the TOML files in a package."""
    folder = resources.files(package)
    return sorted(f.name[:-5] for f in folder.iterdir() if f.name.endswith(".toml"))


def read(name_or_path: str, package: str, kind: str) -> Source:
    """The file of that name in `package`, or the one at a path; `kind` says what it is in errors.

    Raises InputError.
    """
    if "/" in name_or_path or name_or_path.endswith(".toml"):
        path = Path(name_or_path)
        return Source(toml.read(path, kind), str(path), path.stem)
    known = names(package)
    if name_or_path not in known:
        raise InputError(
            f"unknown {kind} '{name_or_path}': there are {', '.join(known)}; "
            "or give the path of a TOML file"
        )
    file = resources.files(package).joinpath(f"{name_or_path}.toml")
    return Source(file.read_text(), file.name, name_or_path)
