"""Many nights remembered: each test's verdicts and figures, run by run, in one SQLite file.

It is made of run folders and can be made again of them at any time: they are the truth.
"""

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Annotated, NamedTuple, TypeAlias

import msgspec

from qmptests import places
from qmptests.errors import EnvironmentFailure, InputError
from qmptests.files import Instant
from qmptests.matrix import summary
from qmptests.matrix.results import Verdict
from qmptests.report import effect
from qmptests.report.comparison import LEAST_MS
from qmptests.report.runs import Run, name_of

FORMAT = 2
"""`user_version` of the file; raised when a table changes."""

_TABLES = """
create table runs (
    id integer primary key,
    folder text not null unique,   -- as it was given, absolute
    started real not null          -- seconds since the epoch
);
create table items (
    run integer not null references runs (id) on delete cascade,
    name text not null,            -- test and cell
    verdict text not null,
    because text not null,
    primary key (run, name)
) without rowid;
create table figures (
    run integer not null references runs (id) on delete cascade,
    name text not null,
    figure text not null,          -- as of qmptests report --compare
    ms real not null,
    primary key (run, name, figure)
) without rowid;
"""
Milliseconds: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=1e12)]
#: Name, verdict, because, folder, started, downtime.
_Row: TypeAlias = tuple[str, Verdict, str, str, Instant, Milliseconds | None]
#: What SQLite says of the machine, not of the file.
_OF_THE_MACHINE = {
    *(sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM),
    *(sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM),
}
_BAD = tuple(str(verdict) for verdict in Verdict if verdict.bad)
#: Runs of a test that are looked at and shown, the newest; a side of a change has four.
LATELY, _SIDE = 40, effect.least_repeats()


class Night(NamedTuple):
    """One run of one test. `downtime_ms`: None if there was none."""

    run: str
    started: float
    verdict: str
    because: str
    downtime_ms: float | None

    @property
    def bad(self) -> bool:
        """Whether the verdict is."""
        return self.verdict in _BAD


class Shift(NamedTuple):
    """Since `run` downtime is another: its median before and since, milliseconds."""

    run: str
    before: float
    after: float

    @property
    def slower(self) -> bool:
        """Whether that is for the worse."""
        return self.after > self.before


class Trend(NamedTuple):
    """One test over all runs that had it, in order of time, and did not skip it."""

    name: str
    nights: list[Night]

    @property
    def bad(self) -> bool:
        """Whether it is bad now."""
        return self.nights[-1].bad

    @property
    def first_bad(self) -> Night | None:
        """The run since which it is bad; it was good in the run before, or there is none."""
        first = None
        for night in reversed(self.nights):
            if not night.bad:
                break
            first = night
        return first

    @property
    def ever_good(self) -> bool:
        """Whether any run was."""
        return not all(night.bad for night in self.nights)

    def downtimes(self) -> list[Night]:
        """The runs in which there was one."""
        return [night for night in self.nights if night.downtime_ms is not None]

    def shift(self) -> Shift | None:
        """The run since which downtime is another, if that is more than chance.

        Of all ways to divide the runs in two the one that chance explains least, if it would do so
        in less than one of twenty tests that have not changed.
        """
        nights = self.downtimes()[-LATELY:]
        figures = [night.downtime_ms or 0.0 for night in nights]
        splits = range(_SIDE, len(figures) - _SIDE + 1)
        found = [(effect.compare(figures[:n], figures[n:], least=LEAST_MS), n) for n in splits]
        if not found:
            return None
        best, n = min(found, key=lambda pair: pair[0].chance)
        if best.verdict is not effect.Verdict.CHANGED or best.chance * len(found) > effect.ALPHA:
            return None
        return Shift(nights[n].run, best.before, best.after)


@contextlib.contextmanager
def _explained(file: Path) -> Iterator[None]:
    """Turn SQLite's errors, and values that can't be, into one line: damaged, or the machine."""
    try:
        yield
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in _OF_THE_MACHINE:
            raise EnvironmentFailure(f"cannot use {file}: {error}") from error
        raise InputError(f"{file} is no history, or it is damaged: {error}") from error
    except (msgspec.ValidationError, UnicodeDecodeError) as error:
        raise InputError(f"{file} is damaged: {error}") from error


def _kinds(file: Path, db: sqlite3.Connection) -> set[str]:
    """What is in a database; raises InputError for more than tables, since views can be endless."""
    # Interrupts are heard while SQLite works.
    db.set_progress_handler(lambda: 0, 1_000_000)
    kinds = {kind for (kind,) in db.execute("select type from sqlite_master")}
    if not {"table", "index"} >= kinds:
        raise InputError(f"{file} is no history: it has views or triggers")
    return kinds


class History:
    """The store. Use it as a context manager.

    Each method raises InputError for a file that is none or is damaged, and EnvironmentFailure
    where it can't be read or written. A file that can't be made is not left half made.
    """

    def __init__(self, file: Path) -> None:
        if link := places.foreign_link(file):
            raise InputError(f"{file} is no history to be used: {link}")
        self.file = file
        is_new = not os.path.lexists(file)
        if not is_new and not file.is_file():
            raise InputError(f"{file} is no ordinary file")
        with _explained(file):
            self._db = sqlite3.connect(file)
        try:
            with _explained(file):
                self._open()
        except BaseException:
            self._db.close()
            if is_new:
                file.unlink(missing_ok=True)
            raise

    def _open(self) -> None:
        (version,) = self._db.execute("pragma user_version").fetchone()
        kinds = _kinds(self.file, self._db)
        if not kinds and version == 0:
            self._db.executescript(f"begin; {_TABLES} pragma user_version = {FORMAT}; commit;")
        elif version != FORMAT:
            raise InputError(
                f"{self.file} has format {version}, this qmptests has {FORMAT}: make it again of "
                f"the run folders with qmptests history rebuild {self.file}"
            )
        self._db.execute("pragma foreign_keys = on")

    def __enter__(self) -> "History":
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    def add(self, run: Run) -> int:
        """Take in a run, in place of what was known of its folder; how many tests it had.

        Raises InputError for a run that was cut short: it says nothing of what it did not come to.
        """
        results = run.results
        if results is None:
            raise InputError(f"{run.folder} was cut short: it is not remembered")
        items = [(name_of(i), str(i.verdict), summary.reason(i)) for i in results.items]
        figures = {
            (name_of(item), "downtime"): float(item.downtime_ms)
            for item in results.items
            if item.downtime_ms is not None
        }
        for migration in run.migrations():
            figures |= {(migration.name, name): ms for name, ms in migration.figures().items()}
        folder = str(run.folder.absolute())
        with _explained(self.file), self._db:
            self._db.execute("delete from runs where folder = ?", (folder,))
            number = self._db.execute(
                "insert into runs (folder, started) values (?, ?)", (folder, results.started)
            ).lastrowid
            self._db.executemany(
                "insert or replace into items values (?, ?, ?, ?)",
                [(number, *row) for row in items],
            )
            self._db.executemany(
                "insert into figures values (?, ?, ?, ?)",
                [(number, *key, ms) for key, ms in figures.items()],
            )
        return len(items)

    def trends(self) -> Iterator[Trend]:
        """Each test's, by its name."""
        with _explained(self.file):
            yield from self._trends()

    def _trends(self) -> Iterator[Trend]:
        found = self._db.execute(
            "select items.name, verdict, because, folder, started, ms from items"
            " join runs on runs.id = items.run"
            " left join figures on figures.run = items.run and figures.name = items.name"
            " and figure = 'downtime'"
            " where verdict != ? order by items.name, started, runs.id",
            (str(Verdict.SKIPPED),),
        )
        rows: Iterator[_Row] = (msgspec.convert(row, _Row) for row in found)
        for name, mine in groupby(rows, key=itemgetter(0)):
            nights = [
                Night(Path(folder).name, started, verdict, because, ms)
                for _, verdict, because, folder, started, ms in mine
            ]
            yield Trend(name, nights)

    def newest(self) -> float:
        """When the last run that it remembers was started; 0 if there is none."""
        with _explained(self.file):
            (started,) = self._db.execute("select max(started) from runs").fetchone()
        return float(started or 0)

    def runs(self) -> int:
        """How many it remembers."""
        with _explained(self.file):
            (count,) = self._db.execute("select count(*) from runs").fetchone()
        return int(count)


def folders(file: Path) -> list[Path]:
    """The run folders that a store knows, of whatever format; raises as `History` does."""
    with (
        _explained(file),
        contextlib.closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as db,
    ):
        _kinds(file, db)
        rows = db.execute("select folder from runs order by started, id").fetchall()
        return [Path(folder) for (folder,) in msgspec.convert(rows, list[tuple[str]])]


def lines(history: History, *, everything: bool = False) -> Iterator[str]:
    """What is bad now and since when, and what has become slower; with `everything` all tests."""
    tests = bad = slower = gone = 0
    newest = history.newest()
    for trend in history.trends():
        tests += 1
        gone += trend.nights[-1].started < newest
        bad += trend.bad
        shift = trend.shift()
        slower += shift is not None and shift.slower
        if not (trend.bad or everything or (shift and shift.slower)):
            continue
        yield f"{trend.name}"
        marks = "".join("F" if night.bad else "." for night in trend.nights[-LATELY:])
        known = [night.downtime_ms for night in trend.downtimes()]
        downtimes = f"  downtime {known[0]:.1f} -> {known[-1]:.1f} ms" if known else ""
        yield f"  {marks}{downtimes}"
        yield from (f"  {line}" for line in told(trend, shift))
    yield counts(history.runs(), tests, bad, slower, gone)


def counts(runs: int, tests: int, bad: int, slower: int, gone: int) -> str:
    """The whole history in a line. `gone`: tests that did not run in the last run."""
    left_out = f"; {gone} did not run in the last one" if gone else ""
    return (
        f"{runs} runs, {tests} tests: {bad} bad now, {tests - bad} good, "
        f"{slower} slower than they were{left_out}"
    )


def told(trend: Trend, shift: Shift | None) -> Iterator[str]:
    """Since when it is bad, and since when its downtime is another."""
    first = trend.first_bad
    if first is not None:
        day = time.strftime("%Y-%m-%d %H:%M", time.localtime(first.started))
        before = "" if trend.ever_good else ", never good before"
        yield f"bad since {first.run} ({day}){before}: {trend.nights[-1].because}"
    if shift is not None:
        word = "slower" if shift.slower else "faster"
        yield f"{word} since {shift.run}: downtime {shift.before:.1f} -> {shift.after:.1f} ms"
