"""What a JUnit file of pytest's says, for those who run pytest as a process of its own."""

import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from pathlib import Path

from qmptests.errors import EnvironmentFailure, InputError
from qmptests.outcome.record import NO_FAULT_OF_QEMU

#: A test that ends with one of these says nothing about the thing under test; the last two are how
#: Python says that the disk, the descriptors or the memory are used up.
_NO_FAULT_OF_QEMU = (
    *(f"{error.__module__}.{error.__name__}:" for error in (EnvironmentFailure, InputError)),
    "OSError:",
    "MemoryError",
)


@dataclass
class Counts:
    """What became of the tests.

    `failed`: names of those in which the thing under test failed. `undecided`: a line for each
    that could not say: its preparation failed, its worker died, the machine could not do it.
    `skipped`: the reasons, expected failures among them.
    """

    total: int = 0
    passed: int = 0
    failed: list[str] = field(default_factory=list)
    undecided: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    def add(self, case: ET.Element) -> None:
        """Count a `testcase`."""
        self.total += 1
        name = case.get("name", "")
        failure, error, skipped = (case.find(tag) for tag in ("failure", "error", "skipped"))
        if failure is not None:
            message = failure.get("message", "")
            result = case.find("properties/property[@name='qemu_result']")
            no_fault = result is not None and result.get("value") in NO_FAULT_OF_QEMU
            if no_fault or message.startswith(_NO_FAULT_OF_QEMU):
                self.undecided.append(f"{name}: {_first_line(message)}")
            else:
                self.failed.append(name)
        elif error is not None:
            self.undecided.append(f"{name}: {_first_line(error.get('message', ''))}")
        elif skipped is not None:
            self.skipped.append(_first_line(skipped.get("message", "")))
        else:
            self.passed += 1


def read(file: Path) -> Counts | None:
    """The counts of a run; None if it ended before it wrote them."""
    try:
        root = ET.parse(file).getroot()  # noqa: S314 - written by a pytest of ours
    except (FileNotFoundError, ET.ParseError):
        return None
    counts = Counts()
    for case in root.iter("testcase"):
        counts.add(case)
    return counts


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0]
