"""A full disk: one line, nothing left running, and what there is of the evidence stays.

As root, or where an ordinary user may have a mount namespace, on a file system of its own that is
small; everywhere, with a limit on the size of files.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

#: Mounts a file system of $1 KiB on $2, runs the rest, and copies what is in it to $3.
SMALL = """
size=$1; place=$2; kept=$3; shift 3
mount -t tmpfs -o size=${size}k none "$place" || exit 99
"$@"
status=$?
cp -a "$place/." "$kept"
exit $status
"""


@pytest.fixture
def on_small_disk(namespace: Callable[..., tuple[str, ...]]) -> Callable[..., tuple[str, ...]]:
    """What to put before a command for which `place` is a file system of that size."""

    def prefix(place: Path, kept: Path, size_kib: int) -> tuple[str, ...]:
        place.mkdir(exist_ok=True)
        kept.mkdir()
        return (*namespace(), "sh", "-c", SMALL, "sh", str(size_kib), str(place), str(kept))

    return prefix


@pytest.mark.parametrize(
    ("size_kib", "stays"),
    [
        (4, "dirtier.img"),
        (64, "dirtier.img"),
        (76, "source.qmp.jsonl"),
        (92, "source.trace.log"),
    ],
)
def test_a_full_disk_under_the_results(
    migrate: Callable[..., Any],
    on_small_disk: Callable[..., tuple[str, ...]],
    tmp_path: Path,
    size_kib: int,
    stays: str,
) -> None:
    results, kept = tmp_path / "results", tmp_path / "kept"
    wrapper = on_small_disk(results, kept, size_kib)
    ended = migrate("--output", results / "out", wrapper=wrapper).finish()
    ended.said(3, f"cannot write {results}/out.partial/")
    assert "No space left on device" in ended.err
    assert ended.out == ""
    assert [path.name for path in kept.iterdir()] == ["out.partial"]
    assert (kept / "out.partial" / stays).stat().st_size > 0


def test_a_full_temporary_directory(
    migrate: Callable[..., Any],
    on_small_disk: Callable[..., tuple[str, ...]],
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Guest memory is written there to be checked."""
    scratch = tmp_path_factory.mktemp("s")  # short: a socket must fit in it
    wrapper = on_small_disk(scratch, tmp_path / "kept", 64)
    command = migrate(wrapper=wrapper, scratch=scratch)
    ended = command.finish()
    ended.said(3, f"{scratch} has ")
    assert "free some space there, or set TMPDIR" in ended.err
    assert (command.folder / "out" / "outcome.json").exists()
    assert not list((tmp_path / "kept").iterdir())


#: As SMALL; once $4 has something in it, the file system is full for a while.
FULL_FOR_A_WHILE = """
place=$1; kept=$2; grows=$3; shift 3
mount -t tmpfs -o size=8m none "$place" || exit 99
"$@" &
until [ -s "$place/$grows" ]; do sleep 0.01; done
head -c 16m /dev/zero > "$place/filler" 2>/dev/null
sleep 1
rm "$place/filler"
wait $!
status=$?
cp -a "$place/." "$kept"
exit $status
"""


def test_a_disk_that_is_full_for_a_while_is_told_by_every_file_that_lost_a_line(
    migrate: Callable[..., Any],
    start: Callable[..., Any],
    namespace: Callable[..., tuple[str, ...]],
    tmp_path: Path,
) -> None:
    place, kept = tmp_path / "results", tmp_path / "kept"
    place.mkdir()
    kept.mkdir()
    log = "source.vfio.jsonl"
    shell = ("sh", "-c", FULL_FOR_A_WHILE, "sh", place, kept, f"out.partial/{log}")
    command = migrate(
        *("--output", place / "out", "--device", "busy,initial=8M,read_bandwidth=4M"),
        wrapper=[*namespace(), *map(str, shell)],
    )
    ended = command.finish()
    assert ended.status == 0, ended
    out = kept / "out"
    entries = [json.loads(line) for line in (out / log).read_bytes().splitlines()]
    lost = sum(entry["lost"] for entry in entries if "lost" in entry)
    assert lost > 0
    assert entries[-1]["note"] == "ended"
    said = f"{log}: lost {lost} line{'s' * (lost != 1)}: No space left on device"
    assert f"note         evidence incomplete: {said}\n" in ended.out
    (result,) = (line for line in ended.out.splitlines() if line.startswith("result"))
    assert result.startswith("result       completed; evidence incomplete: ")
    assert log in result
    assert "source.trace.log: may lack lines, the disk being full" in ended.out
    timeline = start("timeline", out).finish()
    assert said in timeline.err
    assert said in "".join(json.loads((out / "outcome.json").read_bytes())["evidence_problems"])


def test_files_that_may_not_grow(migrate: Callable[..., Any], tmp_path: Path) -> None:
    """A limit stands in for a quota: for every user, without a mount."""
    if shutil.which("prlimit") is None:
        pytest.skip("no prlimit here")
    command = migrate(wrapper=("prlimit", f"--fsize={32 << 10}"))
    ended = command.finish()
    assert ended.status == 3
    assert len(ended.error_lines) == 1, ended
    assert "dirtier.img can't be written: File too large" in ended.err
    assert (command.folder / "out" / "outcome.json").exists()


def test_a_full_standard_output(migrate: Callable[..., Any]) -> None:
    shell = ("sh", "-c", 'exec "$@" >/dev/full', "sh")
    command = migrate(wrapper=shell)
    command.finish().said(3, "standard output: No space left on device")
    assert (command.folder / "out" / "outcome.json").exists()


@pytest.mark.parametrize(
    ("command", "file"),
    [
        ("report {run} --output {file}", "page.html"),
        ("timeline {run}/0/out --perfetto {file}", "perfetto.json"),
        ("history add {file} {run}", "nights.sqlite"),
    ],
)
def test_a_full_disk_under_what_a_user_names(
    migrate: Callable[..., Any],
    start: Callable[..., Any],
    on_small_disk: Callable[..., tuple[str, ...]],
    tmp_path: Path,
    command: str,
    file: str,
) -> None:
    assert migrate().finish().status == 0
    place, kept = tmp_path / "small", tmp_path / "kept"
    words = [word.format(run=tmp_path, file=place / file) for word in command.split()]
    ended = start(*words, wrapper=on_small_disk(place, kept, 4)).finish()
    ended.said(3, "cannot ")
    assert str(place / file) in ended.err
    assert not list(kept.iterdir()), "half a file is none"
