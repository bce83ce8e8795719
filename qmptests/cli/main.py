"""The `qmptests` command's entry point: signals, errors, exit status.

It imports next to nothing until it has taken the signals over, so that Ctrl-C meets no module
half imported.
"""

import os
import signal
import sys
import warnings
from types import FrameType

from qmptests.errors import EnvironmentFailure, InputError, QmptestsError

#: Exit status after Ctrl-C, as shells have it: 128 and the number of SIGINT.
INTERRUPTED = 130

#: The same when nobody reads what we print: never 0, since nobody saw the result.
READER_GONE = 141

#: What ends a `git bisect run`: git takes any status from 1 to 127, but 125, for "bad".
BISECTION_ENDS = 128

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class _Interrupt(KeyboardInterrupt):
    """Ctrl-C or `kill`.

    A class of its own, since Python ends itself with SIGINT, whatever the exit status, once
    KeyboardInterrupt itself has left an exec(): and importing a dataclass is one.
    """


def main() -> None:
    """Console entry point."""
    code: object = INTERRUPTED
    try:
        # `kill` and a lab's time limit get the same teardown as Ctrl-C.
        for number in _SIGNALS:
            signal.signal(number, _interrupt)
        for_git = sys.argv[1:2] == ["bisect-run"] or "--bisect" in sys.argv
        code = _run_for_git() if for_git else _run()
        _ignore_signals()  # what was to be done is done: too late to interrupt it
    except KeyboardInterrupt:
        pass
    sys.exit(code if isinstance(code, int) else 0)


def _interrupt(signum: int, frame: FrameType | None) -> None:  # noqa: ARG001
    """The first one counts; the teardown that it leads to has deadlines of its own."""
    _ignore_signals()
    warnings.simplefilter("ignore")  # of what is cut off here, "was never awaited" say
    raise _Interrupt


def _ignore_signals() -> None:
    for number in _SIGNALS:
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
        import click  # noqa: PLC0415

        from qmptests.cli.commands import cli  # noqa: PLC0415
    except KeyboardInterrupt as error:
        return _interrupted(error)
    try:
        code = cli.main(standalone_mode=False)
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
    except OSError as error:
        fail(EnvironmentFailure(str(error)))
        _drop_output()
        return EnvironmentFailure.exit_code
    return code


def _drop_output() -> None:
    """What could not be written must not be tried again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _interrupted(error: BaseException) -> int:
    print("qmptests: interrupted", file=sys.stderr)  # noqa: T201
    print_notes(error)
    return INTERRUPTED


def fail(error: QmptestsError) -> None:
    """One clear line, and below it the evidence: last log lines, and where the rest is."""
    print(f"qmptests: error: {error}", file=sys.stderr)  # noqa: T201
    for line in getattr(error, "tail", []):
        print(f"  | {line}", file=sys.stderr)  # noqa: T201
    print_notes(error)


def print_notes(error: BaseException) -> None:
    for note in getattr(error, "__notes__", []):
        print(f"  {note}", file=sys.stderr)  # noqa: T201


if __name__ == "__main__":
    main()
