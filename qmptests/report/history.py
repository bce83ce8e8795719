"""Many nights remembered: each test's verdicts and downtimes, run by run, in one SQLite file.

It is made of run folders and can be made again of them at any time: they are the truth.
"""

import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TypeAlias

from qmptests.errors import EnvironmentFailure, InputError
from qmptests.matrix.results import Verdict
from qmptests.report.runs import Run, name_of

FORMAT = 1
"""`user_version` of the file; raised when a table changes."""

_TABLES = """
create table runs (
    id integer primary key,
    folder text not null unique,   -- as it was given
    started real not null          -- seconds since the epoch
);
create table items (
    run integer not null references runs (id) on delete cascade,
    name text not null,            -- test and cell
    verdict text not null,
    because text not null,
    downtime_ms integer,           -- as QEMU reports it
    primary key (run, name)
) without rowid;
"""
#: Name, verdict, because, downtime, folder, started.
_Row: TypeAlias = tuple[str, str, str, int | None, str, float]
_BAD = tuple(str(verdict) for verdict in Verdict if verdict.bad)


class Trend(NamedTuple):
    """One test over all runs that had it, in order of time.

    `verdicts`: a word each. `first_bad`: the run since which it is bad, "" if it is not now; it was
    good in the run before, or there is none. `downtimes_ms`: None where there is none.
    """

    name: str
    verdicts: list[str]
    first_bad: str
    first_bad_at: float
    because: str
    downtimes_ms: list[int | None]

    @property
    def bad(self) -> bool:
        """Whether it is bad now."""
        return bool(self.first_bad)


class History:
    """The store. Use it as a context manager; raises InputError for a file that is none."""

    def __init__(self, file: Path) -> None:
        self.file = file
        try:
            self._db = sqlite3.connect(file)
            (version,) = self._db.execute("pragma user_version").fetchone()
            (tables,) = self._db.execute("select count(*) from sqlite_master").fetchone()
            if not tables and version == 0:
                self._db.executescript(f"{_TABLES} pragma user_version = {FORMAT};")
            elif version != FORMAT:
                raise InputError(
                    f"{file} has format {version}, this qmptests has {FORMAT}: make it again of "
                    "the run folders"
                )
            self._db.execute("pragma foreign_keys = on")
        except sqlite3.Error as error:
            raise InputError(f"{file} is no history: {error}") from error

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
        rows = [
            (name_of(item), str(item.verdict), item.because, item.downtime_ms)
            for item in results.items
        ]
        folder = str(run.folder.absolute())
        try:
            with self._db:
                self._db.execute("delete from runs where folder = ?", (folder,))
                cursor = self._db.execute(
                    "insert into runs (folder, started) values (?, ?)", (folder, results.started)
                )
                self._db.executemany(
                    "insert or replace into items values (?, ?, ?, ?, ?)",
                    [(cursor.lastrowid, *row) for row in rows],
                )
        except sqlite3.Error as error:
            raise EnvironmentFailure(f"cannot write {self.file}: {error}") from error
        return len(rows)

    def trends(self) -> Iterator[Trend]:
        """Each test's, by its name."""
        rows = self._db.execute(
            "select name, verdict, because, downtime_ms, folder, started from items"
            " join runs on runs.id = items.run where verdict != ? order by name, started, runs.id",
            (str(Verdict.SKIPPED),),
        )
        name = ""
        mine: list[_Row] = []
        for row in rows:
            if row[0] != name and mine:
                yield _trend(mine)
                mine = []
            name = row[0]
            mine.append(row)
        if mine:
            yield _trend(mine)

    def runs(self) -> int:
        """How many it remembers."""
        (count,) = self._db.execute("select count(*) from runs").fetchone()
        return int(count)


def _trend(rows: list[_Row]) -> Trend:
    since = len(rows)
    while since and rows[since - 1][1] in _BAD:
        since -= 1
    now_bad = since < len(rows)
    return Trend(
        name=rows[0][0],
        verdicts=[row[1] for row in rows],
        first_bad=Path(rows[since][4]).name if now_bad else "",
        first_bad_at=rows[since][5] if now_bad else 0.0,
        because=rows[-1][2] if now_bad else "",
        downtimes_ms=[row[3] for row in rows],
    )


def lines(history: History, *, everything: bool = False) -> Iterator[str]:
    """What is bad now and since when; with `everything` all tests."""
    bad = good = 0
    for trend in history.trends():
        bad, good = bad + trend.bad, good + (not trend.bad)
        if not trend.bad and not everything:
            continue
        yield f"{trend.name}"
        marks = "".join("." if v not in _BAD else "F" for v in trend.verdicts[-40:])
        known = [ms for ms in trend.downtimes_ms if ms is not None]
        downtimes = f"  downtime {known[0]} -> {known[-1]} ms" if known else ""
        yield f"  {marks}{downtimes}"
        if trend.bad:
            day = time.strftime("%Y-%m-%d %H:%M", time.localtime(trend.first_bad_at))
            before = "" if "." in marks else ", never good before"
            yield f"  bad since {trend.first_bad} ({day}){before}: {trend.because}"
    yield f"{history.runs()} runs, {bad + good} tests: {bad} bad now, {good} good"
