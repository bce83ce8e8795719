"""The `qmptests` command's entry point: signals, errors, exit status.

It imports next to nothing until it has taken the signals over, so that Ctrl-C meets no module
half imported.
"""

import os
import signal
import sys
import warnings
from pathlib import Path
from types import FrameType

from qmptests import printable
from qmptests.cli import terminal
from qmptests.errors import EnvironmentFailure, InputError, QmptestsError, exhausted

#: Exit status after Ctrl-C, as shells have it: 128 and the number of SIGINT.
INTERRUPTED = 130

#: The same when nobody reads what we print: never 0, since nobody saw the result.
READER_GONE = 141

#: What ends a `git bisect run`: git takes any status from 1 to 127, but 125, for "bad".
BISECTION_ENDS = 128

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

#: Whether there was one that counts, or it is too late for one.
_is_over = False


class _Interrupt(KeyboardInterrupt):
    """Ctrl-C, `kill`, or a terminal that was closed.

    A class of its own, since Python ends itself with SIGINT, whatever the exit status, once
    KeyboardInterrupt itself has left an exec(): and importing a dataclass is one.
    """


def main() -> None:
    """Console entry point."""
    code: object = INTERRUPTED
    _open_standard_streams()
    terminal.install()
    try:
        sys.unraisablehook = _unraisable
        # `kill`, a lab's time limit and a closed terminal get the same teardown as Ctrl-C.
        for number in (*_SIGNALS, signal.SIGALRM):
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup
                signal.signal(number, _interrupt)
        for_git = sys.argv[1:2] == ["bisect-run"] or "--bisect" in sys.argv
        code = _run_for_git() if for_git else _run()
        _ignore_signals()  # what was to be done is done: too late to interrupt it
    except KeyboardInterrupt:
        pass
    sys.exit(code if isinstance(code, int) else 0)


def _open_standard_streams() -> None:
    """Have descriptors 0, 1 and 2, be it of /dev/null.

    Who starts us may have closed them (`2>&-`). The next files that are opened would get these
    numbers, and all that is printed would go into them.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:  # they are looked at in order: the lowest that is free is this one
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "w" if number else "r", closefd=False))


def _interrupt(signum: int, frame: FrameType | None) -> None:  # noqa: ARG001
    """The first one counts; the teardown that it leads to has deadlines of its own.

    The handler stays: Python complains of a signal that came while one with a handler became one
    that is ignored, as two at once do.
    """
    global _is_over  # noqa: PLW0603
    if _is_over:
        return
    _is_over = True
    warnings.simplefilter("ignore")  # of what is cut off here, "was never awaited" say
    raise _Interrupt


def _unraisable(unraisable: "sys.UnraisableHookArgs") -> None:
    """An interrupt that met code whose errors nobody hears (a destructor) comes once more."""
    global _is_over  # noqa: PLW0603
    if isinstance(unraisable.exc_value, _Interrupt):
        _is_over = False
        signal.setitimer(signal.ITIMER_REAL, 0.001)
    elif not _is_over:
        sys.__unraisablehook__(unraisable)


def _ignore_signals() -> None:
    """At the end: what is still to come must not end the interpreter while it shuts down."""
    global _is_over  # noqa: PLW0603
    _is_over = True
    for number in (*_SIGNALS, signal.SIGALRM):
        signal.signal(number, signal.SIG_IGN)


def _run_for_git() -> object:
    """The command's own word, or BISECTION_ENDS: no error, nor a bug of ours, blames a commit."""
    try:
        code = _run()
    except Exception:  # noqa: BLE001 - Python's own status for it is 1
        import traceback  # noqa: PLC0415

        traceback.print_exc()
        return BISECTION_ENDS
    if code in (None, 0, 1, 125):
        return code
    return max(code, BISECTION_ENDS) if isinstance(code, int) else BISECTION_ENDS


def _run() -> object:
    """The command's exit status."""
    try:
        _check_arguments()
        import click  # noqa: PLC0415

        from qmptests.cli.commands import cli  # noqa: PLC0415
    except KeyboardInterrupt as error:
        return _interrupted(error)
    except InputError as error:
        fail(error)
        return error.exit_code
    try:
        code = cli.main(standalone_mode=False, color=True)  # the screen shows what would steer
        sys.stdout.flush()
    except SystemExit as error:
        # When the reader of our output went away (`| head`), click says 1 and wraps the stream.
        gone = type(sys.stdout).__name__.endswith("PacifyFlushWrapper")
        return READER_GONE if gone else error.code
    except QmptestsError as error:
        fail(error)
        return error.exit_code
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        if isinstance(error, click.exceptions.NoArgsIsHelpError):
            error.show()
        else:
            command = context.command_path if context else "qmptests"
            fail(InputError(f"{error.format_message()} ({command} --help says more)"))
        return InputError.exit_code
    except click.Abort as error:
        return _interrupted(error.__cause__ or error)
    except KeyboardInterrupt as error:
        return _interrupted(error)
    except BrokenPipeError:
        _drop_output()
        return READER_GONE
    except Exception as error:
        failure = _of_the_machine(error)
        if failure is None:
            raise
        fail(failure)
        _drop_output()
        return failure.exit_code
    return code


def _of_the_machine(error: Exception) -> EnvironmentFailure | None:
    """An error of Python's own that is no bug of ours, in words."""
    if not isinstance(error, OSError):
        return exhausted(error)
    return EnvironmentFailure(_in_words(error))


def _in_words(error: OSError) -> str:
    """What failed, where, and what to do if that is known."""
    if error.filename is not None:
        return f"{os.fsdecode(error.filename)}: {error.strerror}"
    try:
        Path.cwd()
    except FileNotFoundError:
        return "the working directory was removed: go to another one"
    return str(error)


def _check_arguments() -> None:
    """Raise InputError for one that is not UTF-8: outcome.json and reproduce.sh can't hold it."""
    for number, argument in enumerate(sys.argv[1:], 1):
        try:
            argument.encode()
        except UnicodeEncodeError as error:
            shown = os.fsencode(argument).decode(errors="backslashreplace")
            raise InputError(
                f"argument {number} ({shown}) is not UTF-8, and JSON can hold nothing else: "
                "rename what it names"
            ) from error


def _drop_output() -> None:
    """What could not be written must not be tried again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _interrupted(error: BaseException) -> int:
    print("qmptests: interrupted", file=sys.stderr)  # noqa: T201
    print_notes(error)
    return INTERRUPTED


def fail(error: QmptestsError) -> None:
    """One clear line, and below it the evidence: last log lines, and where the rest is."""
    print(f"qmptests: error: {printable.unwrapped(str(error))}", file=sys.stderr)  # noqa: T201
    for line in getattr(error, "tail", []):
        print(f"  | {printable.one_line(line)}", file=sys.stderr)  # noqa: T201
    print_notes(error)


def print_notes(error: BaseException) -> None:
    for note in getattr(error, "__notes__", []):
        print(f"  {note}", file=sys.stderr)  # noqa: T201


if __name__ == "__main__":
    main()
