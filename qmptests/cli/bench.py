"""`qmptests bench`: what REINIT buys, measured, foretold and swept on emulated devices."""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import click

from qmptests import builds, files, jsontext
from qmptests.bench import plot, prediction, rival, rounds, sample, sweep, tables, variants
from qmptests.bench.sample import Sample
from qmptests.bench.setting import BUSY, IDLE, VM, Setting
from qmptests.cli.migrate import Progress, check_writable, default_folder, results_mode
from qmptests.cli.report import gate
from qmptests.errors import EnvironmentFailure, InputError
from qmptests.outcome import folder, modes
from qmptests.outcome.record import NO_FAULT_OF_QEMU
from qmptests.report import comparison, html, page_of_two
from qmptests.report.runs import BENCH
from qmptests.units import parse_size
from qmptests.vm import definition as definitions
from qmptests.vm import devices

_BENCHES = {"reinit": "downtime with REINIT and without: the series' table, by emulated devices"}
#: Of one bench's JSON.
FORMAT = 1


@click.group()
def bench() -> None:
    """Measure what a feature does to downtime, on emulated devices, and say why."""


@bench.command("list")
def list_() -> None:
    """The benches that there are."""
    for name, what in _BENCHES.items():
        click.echo(f"{name:<10} {what}")


@bench.command()
@click.option("--source", default="", metavar="BUILD", help="Where the VM starts (11.1 or later).")
@click.option(
    "--destination", default="", metavar="BUILD", help="Where it goes (default: as --source)."
)
@click.option("--repeats", type=click.IntRange(1, 1000), default=None, help="Of each side [5].")
@click.option(
    "--against", default="", metavar="BUILD", help="Hold this build, in turn with the first, to it."
)
@click.option(
    "--figure",
    "figures",
    multiple=True,
    metavar="PATTERN",
    help="With --against: judge only such figures, as 'downtime' (repeatable).",
)
@click.option("--bisect", is_flag=True, help="With --against: exit status 125 if it can't be told.")
@click.option("--predict", is_flag=True, help="Foretell 24 downtimes, then measure them.")
@click.option("--rival", "rivals", is_flag=True, help="The other device that explains the series.")
@click.option("--sweep", "sweeps", is_flag=True, help="By a REINIT's size, moment and number.")
@click.option(
    "--plot", "plot_file", type=click.Path(path_type=Path), help="Also an HTML file with pictures."
)
@click.option(
    "--without",
    type=click.Choice([variant.name for variant in variants.WITHOUT]),
    multiple=True,
    help="What REINIT is held against (repeatable) [all four].",
)
@click.option("--vm", default=VM, show_default=True, help="VM definition: a name or a TOML.")
@click.option("--busy", default=BUSY, show_default=True, metavar="PROFILE[,KEY=VALUE...]")
@click.option("--idle", default=IDLE, show_default=True, metavar="PROFILE[,KEY=VALUE...]")
@click.option("--idles", type=click.IntRange(0, 7), default=3, show_default=True, help="Of those.")
@click.option("--switchover-bandwidth", default="8G", show_default=True, metavar="SIZE")
@click.option("--downtime-limit", type=click.IntRange(0, 2_000_000), default=300, show_default=True)
@click.option("--multifd", is_flag=True, help="With device-state transfer over multifd.")
@click.option("--accel", default="tcg", show_default=True, help="Accelerator, as for -accel.")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    default=None,
    metavar="DIR",
    help="Folder for the evidence (default: a new one in qmptests-results/).",
)
@results_mode
@click.option("--json", "json_file", default=None, metavar="FILE", help="All figures.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def reinit(**options: Any) -> None:
    """Reproduce the table of the series that brought REINIT, with one device on both sides.

    Four devices, of which one has 1 GiB of data: 816 MiB of it appear during precopy. The device is
    the same on both sides, and what it says of MIG_PRECOPY_INFOv2 decides the rest. All inputs are
    printed; what moves, how many acks there are and how long all takes are results. Calibrated to
    the series, not measured on mlx5.

    \b
    Examples:
      qmptests bench reinit --source debian:trixie-backports --plot table.html
      qmptests bench reinit --source ~/qemu/build --without no-infov2 --json table.json
      qmptests bench reinit --source debian:trixie-backports --against ~/qemu/build
      qmptests bench reinit --source ~/qemu/build --predict
      qmptests bench reinit --source ~/qemu/build --sweep --plot sweep.html
    """
    if (options["bisect"] or options["figures"]) and not options["against"]:
        raise InputError("--bisect and --figure are about what --against measures: give both")
    if options["plot_file"]:
        html.check()
        check_writable(options["plot_file"])
    if options["json_file"]:
        check_writable(Path(options["json_file"]))
    say = Progress(quiet=options["quiet"])
    try:
        setting = _setting(options, say)
        setting.check()
        status = _Bench(setting, options, say).go()
    finally:
        say.close()
    sys.exit(status)


def _setting(options: dict[str, Any], say: Progress) -> Setting:
    source = builds.resolve(options["source"], progress=say.step)
    destination = source
    if options["destination"]:
        destination = builds.resolve(options["destination"], progress=say.step)
    busy, idle = (devices.load(options[name]) for name in ("busy", "idle"))
    for name, profile in (("busy", busy), ("idle", idle)):
        if profile.vfio is None:
            raise InputError(f"--{name} {profile.name}: the bench takes emulated VFIO devices")
    return Setting(
        source=source,
        destination=destination,
        definition=definitions.load(options["vm"]),
        busy=busy,
        idle=idle,
        idle_count=options["idles"],
        switchover_bandwidth=parse_size(options["switchover_bandwidth"]),
        downtime_limit=options["downtime_limit"],
        multifd=options["multifd"],
        accelerator=options["accel"],
    )


class _Bench:
    """One run of the bench: what was asked for, its evidence, and its report."""

    def __init__(self, setting: Setting, options: dict[str, Any], say: Progress) -> None:
        self.setting = setting
        self.options = options
        self.say = say
        self.mode = modes.parse(options["results_mode"])
        self.report: dict[str, Any] = {"format": FORMAT, "inputs": dict(setting.inputs())}
        #: What --plot shows.
        self.pictures: list[html.Section] = []
        #: Migrations that were to switch over and did not.
        self.failed: list[Sample] = []
        #: What was judged of the build of --against.
        self.rows: list[comparison.Row] = []

    @cached_property
    def output(self) -> Path:
        """The folder for the evidence, made when the first of it comes."""
        if not self.options["output"]:
            wanted = default_folder("bench-reinit")
            return folder.first_free(wanted, lambda path: folder.make(path, self.mode))
        output: Path = self.options["output"]
        if not output.exists():
            folder.make(output, self.mode)
        return output

    def go(self) -> int:
        """Run it, print and write; returns the exit status."""
        self._print(tables.inputs(self.setting))
        parts = {"predict": self._predict, "rivals": self._rivals, "sweeps": self._sweep}
        parts["against"] = self._against
        chosen = [part for name, part in parts.items() if self.options[name]]
        click.echo()
        for part in chosen or [self._compare]:
            part()
        for one in self.failed:
            click.echo(f"failed: {one.folder}: {one.result}: {one.error}")
        data = jsontext.encode(self.report)
        files.write(self.output / BENCH, data, modes.of_files(self.output))
        if self.options["json_file"]:
            files.write(Path(self.options["json_file"]), data)
        if self.options["plot_file"]:
            title = f"REINIT: {self.setting.source.name} -> {self.setting.destination.name}"
            inputs = tables.inputs(self.setting)
            plot.page(self.options["plot_file"], title, inputs, self.pictures)
            click.echo(f"plot: {self.options['plot_file']}")
        click.echo(f"\nevidence: {self.output}")
        if any(one.result in NO_FAULT_OF_QEMU for one in self.failed):
            return 125 if self.options["bisect"] else EnvironmentFailure.exit_code
        return gate(
            worse=bool(self.failed) or any(row.worse for row in self.rows),
            told=comparison.told(self.rows),
            bisect=self.options["bisect"],
        )

    def _print(self, lines: Any) -> None:
        self.say.close()
        for line in lines:
            click.echo(line)

    @property
    def _pictured(self) -> bool:
        return self.options["plot_file"] is not None

    def _show(self, title: str, lines: Iterable[str], chart: html.Chart | None = None) -> None:
        """A part of the report, on the terminal and in the picture."""
        told = list(lines)
        if self.pictures:
            click.echo()
        self._print(told)
        self.pictures.append(html.Section(title, chart=chart, plain="\n".join(told)))

    def _run(self, name: str, sides: rounds.Sides, repeats: int) -> dict[str, list[Sample]]:
        count = self.options["repeats"] or repeats
        found = rounds.run(sides, count, self.output / name, self.say.step, mode=self.mode)
        self.say.close()
        self.report[name] = found
        return found

    def _check(self, samples: Sequence[Sample]) -> None:
        self.failed += [one for one in samples if one.result != "completed"]

    def _compare(self) -> None:
        names = self.options["without"]
        chosen = [v for v in variants.ALL if v is variants.WITH or not names or v.name in names]
        sides = [(variant.name, variant.plan(self.setting)) for variant in chosen]
        found = self._run("table", sides, 5)
        for samples in found.values():
            self._check(samples)
        chart = plot.table(found) if self._pictured else None
        self._show("Downtime with REINIT and without", tables.comparison(found, chosen), chart)
        self._show("What REINIT saves, and what it costs", tables.bargain(found, chosen))
        self._show("What the series' reviewer asked", tables.answers(found))
        for samples in found.values() if self._pictured else ():
            name = samples[0].folder
            self.pictures.append(plot.migration(name, self.output / "table" / name))

    def _predict(self) -> None:
        told = []
        sides = []
        for point in prediction.points():
            here = point.apply(self.setting)
            for with_reinit, variant in ((False, variants.WITHOUT[0]), (True, variants.WITH)):
                told.append((point, with_reinit, prediction.downtime_ms(here, reinit=with_reinit)))
                plan = variant.plan(here)
                sides.append((tables.side(point, with_reinit), replace(plan, timeout_s=30.0)))
        written = {tables.side(point, yes): ms for point, yes, ms in told}
        file = self.output / "prediction.json"
        files.write(file, jsontext.encode(written), modes.of_files(self.output))
        self.say.line(f"foretold in {file}")
        self.report["predicted"] = written
        found = self._run("predicted", sides, 1)
        for point, yes, ms in told:
            if ms is not None:
                self._check(found[tables.side(point, yes)])
        self._show("Foretold, and measured", tables.foretold(told, found))

    def _against(self) -> None:
        build = builds.resolve(self.options["against"], progress=self.say.step)
        other = replace(self.setting, source=build, destination=build)
        other.check()
        if not sample.figures([], self.options["figures"]):
            known = ", ".join(sample.COMPARED)
            raise InputError(f"--figure: there is no such figure; there are {known}")
        chosen = (variants.WITHOUT[0], variants.WITH)
        sides = [
            (f"{side}-{variant.name}", variant.plan(setting))
            for variant in chosen
            for side, setting in (("a", self.setting), ("b", other))
        ]
        found = self._run("against", sides, 10)
        for samples in found.values():
            self._check(samples)
        judged = []
        for variant in chosen:
            before, after = (
                sample.figures(found[f"{side}-{variant.name}"], self.options["figures"])
                for side in "ab"
            )
            judged.append(comparison.judge(before, after))
        for variant, rows in zip(chosen, comparison.confirm(judged), strict=True):
            self.report[f"{variant.name} compared"] = rows
            self.rows += rows
            names = [f"{setting.source.name}, {variant.what}" for setting in (self.setting, other)]
            chart = page_of_two.chart(rows) if self._pictured else None
            self._show(f"Two builds: {variant.what}", comparison.lines(rows, *names), chart)

    def _rivals(self) -> None:
        sides = [
            (f"{name}-{variant.name}", variant.plan(setting))
            for name, setting in (("ours", self.setting), ("rival", rival.of(self.setting)))
            for variant in (variants.WITHOUT[0], variants.WITH)
        ]
        found = self._run("rivals", sides, 3)
        for samples in found.values():
            self._check(samples)
        self._show("The other device that explains the series", tables.rivals(found))

    def _sweep(self) -> None:
        points = list(sweep.points(self.setting))
        sides = [
            (f"{point.name}-{variant.name}", variant.plan(point.setting))
            for point in points
            for variant in (sweep.WITHOUT, sweep.WITH)
        ]
        found = self._run("sweep", sides, 1)
        for point in points:
            endless = point.value == sweep.ENDLESS
            for variant in (sweep.WITHOUT,) if endless else (sweep.WITHOUT, sweep.WITH):
                self._check(found[f"{point.name}-{variant.name}"])
        rows = sweep.rows(points, found)
        self._show("Sweep", tables.swept(rows))
        if self._pictured:
            self.pictures += [html.Section(t, chart=chart) for t, chart in plot.swept(rows)]
