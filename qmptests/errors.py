"""What can go wrong, in the three ways that a caller must tell apart.

Every error that leaves the library is one of these. Its text is one clear line: what was wrong,
where, and what to do. The command line prints it and exits with `exit_code`.
"""

from qmptests import printable


class QmptestsError(Exception):
    """Base of all errors raised on purpose; `exit_code` is the process's exit status for it."""

    exit_code = 3

    def __str__(self) -> str:
        """The text, in which words of outside steer no terminal."""
        return printable.lines(super().__str__())


class TestedFailure(QmptestsError):
    """The thing under test failed: QEMU refused, crashed, lost data or did not finish."""

    __test__ = False
    exit_code = 1


class InputError(QmptestsError):
    """What the user asked for can't be right: an unknown name, a wrong value, a malformed file."""

    exit_code = 2


class EnvironmentFailure(QmptestsError):
    """The machine could not do it: no network, disk full, a missing tool, a dead launcher."""

    exit_code = 3


def exhausted(error: BaseException) -> EnvironmentFailure | None:
    """An error of Python's own that says that the machine, or a limit, gave no more."""
    if isinstance(error, MemoryError):
        return EnvironmentFailure("there is no memory left (see `free` and `ulimit -v`)")
    if isinstance(error, RuntimeError) and "can't start new thread" in str(error):
        return EnvironmentFailure(
            "no thread can be started: no memory, or too many processes (see `ulimit -v -u`)"
        )
    return None
