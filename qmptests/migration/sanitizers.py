"""Reports of sanitizers in what a QEMU wrote to its standard error.

A report is told from what a sanitizer says of itself (that it can't work under a debugger, say, or
that it does not fully support swapcontext, which QEMU uses). Source: LLVM's compiler-rt, whose
reports begin with `==PID==ERROR:` or `WARNING:` and the tool's name; those of
UndefinedBehaviorSanitizer with the place in the source and `runtime error:`.
"""

import contextlib
import mmap
import re
from dataclasses import dataclass
from pathlib import Path

#: Lines of a report that are shown; all of it is in the log.
LINES = 40
#: What at least one of stands in every report: a quick look at a long log.
_SIGNS = (b"Sanitizer: ", b": runtime error: ")
_REPORT = re.compile(
    rb"==\d+==ERROR: ((?:HWAddress|Address|Leak|Thread|Memory|UndefinedBehavior)Sanitizer: [^\n]+)"
    rb"|WARNING: ((?:Thread|Memory)Sanitizer: [^\n]+)"
    rb"|^((?:[^\n:]+:\d+(?::\d+)?|[^\n]+\+0x[0-9a-f]+\)?|<unknown>): runtime error: [^\n]+)",
    re.MULTILINE,
)
_LAST = re.compile(r"SUMMARY: \w+Sanitizer: ")


@dataclass(frozen=True, slots=True)
class Report:
    """`title`: tool and finding, in one line. `lines`: the report's beginning, up to its summary"""

    title: str
    lines: list[str]


def first_report(log: "bytes | mmap.mmap") -> Report | None:
    """The first report in a log, or None."""
    if all(log.find(sign) < 0 for sign in _SIGNS):
        return None
    found = _REPORT.search(log)
    if found is None:
        return None
    title = next(group for group in found.groups() if group).decode(errors="replace").strip()
    if found[3]:
        title = f"UndefinedBehaviorSanitizer: {title}"
    start = log.rfind(b"\n", 0, found.start()) + 1
    lines = log[start : start + (1 << 16)].decode(errors="replace").splitlines()[:LINES]
    last = next((n for n, line in enumerate(lines) if _LAST.match(line)), len(lines))
    return Report(title, [line.rstrip() for line in lines[: last + 1]])


def report_in(path: Path) -> Report | None:
    """The first report in a log file; None also if there is no such file."""
    with (
        contextlib.suppress(OSError, ValueError),  # ValueError: an empty file
        path.open("rb") as stream,
        mmap.mmap(stream.fileno(), 0, prot=mmap.PROT_READ) as log,
    ):
        return first_report(log)
    return None
