"""What a kernel answers the probe's cases, and where an output of the probe differs from it.

    python -m tests.fidelity.answers OUTPUT

compares what the probe printed on another machine, such as one with a real VFIO device: there
every answer must be the kernel's, and what is a known difference of the emulation must not be one.
"""

import re
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).parent
TABLES = tuple(sorted(HERE.glob("*.toml")))
_LINE = re.compile(r"(?P<name>\S+) (?P<answer>-?\d+ \S+(?: .*)?)", re.ASCII)


class Case(NamedTuple):
    """What the kernel answers: result, errno ("-" for none) and fields, as the probe prints them.

    `by`: the kernel's function that decides it. `here`: what the emulation answers, if that is
    another thing, and `why`.
    """

    kernel: str
    by: str
    here: str = ""
    why: str = ""


class Group(NamedTuple):
    """The cases of one process, and the `--device` of each emulated device that it needs."""

    name: str
    devices: tuple[str, ...]
    cases: Mapping[str, Case]


def groups(tables: Iterable[Path] = TABLES) -> dict[str, Group]:
    """All groups by name. Raises ValueError for a table that says something else."""
    read: dict[str, Group] = {}
    for path in tables:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
        for name in ("linux", "folder"):
            if not isinstance(table.pop(name, None), str):
                raise ValueError(f"{path.name}: it doesn't say `{name}`: which kernel's source?")
        for name, cases in table.items():
            if name in read:
                raise ValueError(f"{path.name}: [{name}] is there twice")
            read[name] = _group(path.name, name, cases)
    return read


def _group(file: str, name: str, table: dict[str, Any]) -> Group:
    devices = tuple(table.pop("devices", ["idle"]))
    cases = {}
    for key, fields in table.items():
        try:
            case = Case(**fields)
        except TypeError as error:
            raise ValueError(f"{file}: {name}/{key}: {error}") from error
        if bool(case.here) != bool(case.why) or case.here == case.kernel or not case.by:
            raise ValueError(f"{file}: {name}/{key}: a difference has `here` and `why`")
        cases[key] = case
    return Group(name, devices, cases)


def differences(group: Group, lines: Iterable[str], *, emulated: bool) -> Iterator[str]:
    """What is not as the table says, a line each; `emulated`: known differences are as it says."""
    answers: dict[str, str] = {}
    for line in lines:
        match = _LINE.fullmatch(line)
        if match is None:
            yield f"{group.name}: not a case's line: {line!r}"
        elif match["name"] in answers:
            yield f"{match['name']}: there are two of that name"
        else:
            answers[match["name"]] = match["answer"]
    expected = {f"{group.name}/{name}": case for name, case in group.cases.items()}
    for name, case in expected.items():
        found = answers.pop(name, "nothing: the probe has no such case, or did not come to it")
        known = emulated and case.here
        if found == (case.here if known else case.kernel):
            continue
        if known and found == case.kernel:
            yield f"{name}: equal to the kernel by now: take `here` and `why` away"
        else:
            wants = f"Linux {case.kernel} ({case.by})"
            yield f"{name}: {wants}{', here so far ' + case.here if known else ''}; got {found}"
    for name, found in answers.items():
        yield f"{name}: got {found}; the table does not say what Linux answers"


def main() -> None:
    output = Path(sys.argv[1]).read_text(encoding="utf-8").splitlines()
    by_group: dict[str, list[str]] = {}
    for line in output:
        by_group.setdefault(line.partition("/")[0], []).append(line)
    known = groups()
    count = 0
    for name, lines in by_group.items():
        group = known.get(name, Group(name, (), {}))
        for difference in differences(group, lines, emulated=False):
            print(difference)
            count += 1
    print(f"{len(output)} answers, {count} different")
    sys.exit(1 if count else 0)


if __name__ == "__main__":
    main()
