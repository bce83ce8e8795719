"""`qmptests bench reinit` on real QEMU, in a small VM with a small device."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from qmptests import builds
from qmptests.bench import plot, rounds, sweep, variants
from qmptests.bench.setting import Setting
from qmptests.report import html
from qmptests.vm import definition, devices
from tests.report import markup

NEW = "debian:trixie-backports"
#: The initial data take all but the first 100 ms, in which QEMU never switches over.
SIZES = "initial=8M,late=24M,late_after=8M,late_at_stop=on,stop_copy=8M,read_bandwidth=50000000"
BUSY = f"idle,{SIZES}"

SIDES = ("no-infov2", "reinit")


def bench(*args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "qmptests.cli.main", "bench", *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def small(output: Path, *args: str) -> subprocess.CompletedProcess[str]:
    options = ["--source", NEW, "--vm", "none", "--busy", BUSY, "--idle", "idle", "--idles", "1"]
    return bench("reinit", *options, "--repeats", "1", "--output", str(output), *args)


def test_only_reinit_has_late_data_read_while_the_guest_runs(tmp_path: Path) -> None:
    file = tmp_path / "table.json"
    done = small(tmp_path / "out", "--json", str(file))
    assert done.returncode == 0, done.stderr
    assert "calibrated to the series, not measured on mlx5" in done.stdout
    report: dict[str, Any] = json.loads(file.read_bytes())
    table = {name: samples[0] for name, samples in report["table"].items()}
    assert set(table) == {variant.name for variant in variants.ALL}
    with_ = table.pop("reinit")
    assert (with_["mechanism"], with_["reinit_count"]) == ("new", 1)
    assert with_["moved_bytes"] == 24 << 20
    assert with_["read_in_stop_copy_bytes"] == 8 << 20
    assert [ack["why"] for ack in with_["acks"]].count("reinit") == 1
    for name, one in table.items():
        # QEMU may read a little of what is dirty before it decides.
        assert one["read_in_stop_copy_bytes"] > 24 << 20, name
        assert one["downtime_ms"] > with_["downtime_ms"], name
    mechanisms = {name: one["mechanism"] for name, one in table.items()}
    assert mechanisms == {
        "no-infov2": "new",
        "legacy-machine": "legacy",
        "capability-off": "",
        "legacy-property": "legacy",
    }
    assert (tmp_path / "out" / "table" / "reinit-01" / "outcome.json").exists()


def test_two_builds_are_held_against_each_other_in_turn(tmp_path: Path) -> None:
    """Too few repeats to tell, for which git has an exit status."""
    file = tmp_path / "against.json"
    options = ["--bisect", "--figure", "down*", "--json", str(file)]
    done = small(tmp_path / "out", "--against", NEW, *options)
    assert done.returncode == 125, done.stderr
    assert "? (~4)" in done.stdout
    report: dict[str, Any] = json.loads(file.read_bytes())
    assert set(report["against"]) == {f"{side}-{v}" for side in "ab" for v in SIDES}
    for variant in SIDES:
        rows = {row["name"]: row["effect"]["verdict"] for row in report[f"{variant} compared"]}
        assert rows == {"downtime": "can't tell"}


def test_a_sweep_is_drawn(tmp_path: Path) -> None:
    build = builds.resolve(NEW)
    setting = Setting(
        build,
        build,
        definition=definition.load("none"),
        busy=devices.load(BUSY),
        idle=devices.load("idle"),
    )
    point = next(p for p in sweep.points(setting) if p.axis == sweep.COUNT and p.value == "2")
    sides = [
        (f"{point.name}-{variant.name}", variant.plan(point.setting))
        for variant in (sweep.WITH, sweep.WITHOUT)
    ]
    found = rounds.run(sides, 1, tmp_path, lambda _: None)
    (row,) = sweep.rows([point], found)
    assert row.reinits == 2
    assert row.with_ms is not None
    assert row.without_ms is not None
    file = tmp_path / "sweep.html"
    ((title, chart),) = plot.swept([row])
    pictured = plot.migration("one of them", tmp_path / found[sides[0][0]][0].folder)
    assert len(pictured.pictures) == 2
    assert pictured.pictures[0].count('class="reinit"') == 2
    plot.page(file, "two REINITs", ["all of it"], [html.Section(title, chart=chart), pictured])
    text, _ = markup.read(file)
    assert '<h1 class="">two REINITs</h1>' in text
    assert "all of it" in text


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--source", "debian:trixie"], "has no switchover-ack that can be asked for again"),
        (["--source", NEW, "--figure", "downtime"], "give both"),
        (["--source", NEW, "--against", NEW, "--figure", "x"], "there is no such figure"),
        (["--source", NEW, "--bisect"], "give both"),
        (["--source", NEW, "--plot", "/nowhere/x.html"], "cannot write /nowhere/x.html"),
        (["--source", NEW, "--busy", "e1000e"], "the bench takes emulated VFIO devices"),
        (["--source", NEW, "--switchover-bandwidth", "much"], "'much' is not a size"),
        (["--source", NEW, "--json", "/nowhere/x.json"], "cannot write /nowhere/x.json"),
    ],
)
def test_what_can_not_be_measured_is_refused_in_one_line(args: list[str], words: str) -> None:
    done = bench("reinit", *args)
    assert done.returncode == (128 if "--bisect" in args else 2)
    (line,) = done.stderr.splitlines()
    assert words in line


def test_benches_are_listed() -> None:
    done = bench("list")
    assert done.returncode == 0
    assert done.stdout.startswith("reinit ")
