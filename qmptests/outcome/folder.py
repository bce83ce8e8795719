"""Folders of evidence: written under a temporary name, renamed into place when whole."""

import contextlib
import errno
import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from qmptests import files, jsontext, places
from qmptests.errors import EnvironmentFailure, InputError
from qmptests.outcome import modes
from qmptests.outcome.record import SCHEMA, OutcomeRecord

T = TypeVar("T")

#: A folder that still has this ending was never finished: its run was killed.
PARTIAL = ".partial"


def _partial(final: Path) -> Path:
    return final.with_name(final.name + PARTIAL)


class Taken(InputError):
    """There is such a folder already, or one that is to get this name."""


def first_free(wanted: Path, make: Callable[[Path], T]) -> T:
    """What `make` makes of `wanted`, or of the first of `wanted`-2, -3, ... that is not taken.

    `make` raises Taken for one that is, and must find out and take it in one step.
    """
    for number in itertools.count(1):
        with contextlib.suppress(Taken):
            return make(wanted if number == 1 else wanted.with_name(f"{wanted.name}-{number}"))
    raise AssertionError


def make(folder: Path, mode: int = modes.PRIVATE) -> Path:
    """Create a folder for a run's results; raises InputError, Taken if it is there."""
    _refuse_link(folder)
    try:
        modes.make(folder, mode)
    except FileExistsError as error:
        raise Taken(f"{folder} exists already: results are never overwritten") from error
    except OSError as error:
        raise InputError(f"cannot create {folder}: {error.strerror}") from error
    return folder


def begin(final: Path, mode: int = modes.PRIVATE) -> Path:
    """Create the folder that becomes `final`; raises Taken if that exists already.

    It is private until it is finished; `mode` is that of missing folders above it.
    """
    if not final.name:
        raise InputError(f"{final} can't be a results folder")
    partial = _partial(final)
    _refuse_link(final)
    _refuse_taken(final)
    try:
        if not partial.parent.exists():
            with contextlib.suppress(FileExistsError):  # another run has made it in the meantime
                modes.make(partial.parent, mode)
        partial.mkdir(modes.PRIVATE)
    except FileExistsError as error:
        raise Taken(
            f"{partial} is there: another run writes it, or was killed; remove it first"
        ) from error
    except OSError as error:
        raise EnvironmentFailure(f"cannot create {partial}: {error.strerror}") from error
    try:
        _refuse_taken(final)  # another run may have finished it since
    except Taken:
        partial.rmdir()
        raise
    return partial


def _refuse_link(final: Path) -> None:
    """Whoever has a link on the way decides where results come to lie, also while they are made."""
    if link := places.foreign_link(final.parent):
        raise InputError(f"cannot create {final}: {link}")


def _refuse_taken(final: Path) -> None:
    # lexists: a dangling link is in the way too, and a folder that may not be looked into is not.
    if os.path.lexists(final):
        raise Taken(f"{final} exists already: results are never overwritten")


def resume(final: Path, mode: int = modes.PRIVATE) -> Path:
    """The folder that a dead process began for `final`, or a new one; raises as `begin` does."""
    partial = _partial(final)
    return partial if partial.is_dir() and not os.path.lexists(final) else begin(final, mode)


def finish(partial: Path, outcome: OutcomeRecord, mode: int = modes.PRIVATE) -> Path:
    """Write `outcome.json` and rename the folder into place; returns its final path.

    The folder and all that is in it get `mode`.

    Raises EnvironmentFailure (a full disk, say); the partial folder stays as it is then.
    """
    final = partial.with_name(partial.name.removesuffix(PARTIAL))
    data = jsontext.encode(outcome)
    if partial.is_symlink():
        raise EnvironmentFailure(
            f"{partial} is a link now: somebody has put it in the folder's place"
        )
    temporary = partial / "outcome.json.new"
    try:
        temporary.write_bytes(data)
        temporary.rename(partial / "outcome.json")
        modes.give(partial, mode)
        partial.rename(final)
    except OSError as error:
        full = " (the disk is full)" if error.errno == errno.ENOSPC else ""
        rest = "what there is of the evidence stays there"
        if not partial.is_dir():
            rest = "the folder was removed or renamed while it was written"
        raise EnvironmentFailure(
            f"cannot write {partial / 'outcome.json'}: {error.strerror}{full}; {rest}"
        ) from error
    return final


def load(path: Path) -> OutcomeRecord:
    """The outcome in a folder, or in an `outcome.json` itself; raises InputError."""
    try:
        file = files.within(path, "outcome.json") if path.is_dir() else path
    except OSError as error:
        raise InputError(f"no outcome in {path}: {error.strerror}") from error
    return files.read_json(file, OutcomeRecord, "outcome", schema=SCHEMA)
