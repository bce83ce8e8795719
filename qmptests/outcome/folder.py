"""Folders of evidence: written under a temporary name, renamed into place when whole."""

import errno
import os
from pathlib import Path

from qmptests import files, jsontext
from qmptests.errors import EnvironmentFailure, InputError
from qmptests.outcome import modes
from qmptests.outcome.record import SCHEMA, OutcomeRecord

#: A folder that still has this ending was never finished: its run was killed.
PARTIAL = ".partial"


def _partial(final: Path) -> Path:
    return final.with_name(final.name + PARTIAL)


def is_taken(final: Path) -> bool:
    """Whether there is such a folder, or one that is to get this name."""
    # lexists: a dangling link is in the way too, and a folder that may not be looked into is not.
    return os.path.lexists(final) or os.path.lexists(_partial(final))


def begin(final: Path, mode: int = modes.PRIVATE) -> Path:
    """Create the folder that becomes `final`; raises InputError if that exists already.

    It is private until it is finished; `mode` is that of missing folders above it.
    """
    if not final.name:
        raise InputError(f"{final} can't be a results folder")
    partial = _partial(final)
    if os.path.lexists(final):
        raise InputError(f"{final} exists already: results are never overwritten")
    try:
        if not partial.parent.exists():
            modes.make(partial.parent, mode)
        partial.mkdir(modes.PRIVATE)
    except FileExistsError as error:
        raise InputError(
            f"{partial} is there: another run writes it, or was killed; remove it first"
        ) from error
    except OSError as error:
        raise EnvironmentFailure(f"cannot create {partial}: {error.strerror}") from error
    return partial


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
    temporary = partial / "outcome.json.new"
    try:
        temporary.write_bytes(data)
        temporary.rename(partial / "outcome.json")
        modes.give(partial, mode)
        partial.rename(final)
    except OSError as error:
        full = " (the disk is full)" if error.errno == errno.ENOSPC else ""
        raise EnvironmentFailure(
            f"cannot write {partial / 'outcome.json'}: {error.strerror}{full}; "
            "what there is of the evidence stays there"
        ) from error
    return final


def load(path: Path) -> OutcomeRecord:
    """The outcome in a folder, or in an `outcome.json` itself; raises InputError."""
    file = path / "outcome.json" if path.is_dir() else path
    return files.read_json(file, OutcomeRecord, "outcome", schema=SCHEMA)
