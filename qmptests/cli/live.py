"""A matrix while it runs: a table on a terminal, a line now and then elsewhere."""

import contextlib
import os
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TextIO

from qmptests import printable
from qmptests.matrix import summary
from qmptests.matrix.results import ItemResult, Verdict
from qmptests.matrix.store import Matrix

if TYPE_CHECKING:
    from rich.console import RenderableType

#: Seconds between two lines of a log, at the least; as much as that, or a tenth of the run.
LINE_S = 5.0
#: Refreshments of the table in a second.
REFRESH = 2
#: Items after which their rate says something about the rest.
_ENOUGH = 5
#: Lines of the terminal that are not rows of pairs.
_FRAME = 7


class Tally:
    """How far a run is. `total`: its items; `left_of`: for each pair its items that are left."""

    def __init__(self, matrix: Matrix, began: float) -> None:
        at = [cell.coordinates for cell in matrix.selected]
        self.left_of = Counter((c["source"], c["destination"]) for c in at)
        self.counts_of = {pair: Counter[Verdict]() for pair in self.left_of}
        self.counts = Counter[Verdict]()
        self.total = len(at)
        self.done = 0
        self.failure = ""
        self._began = began

    def add(self, item: ItemResult) -> None:
        """One more is finished."""
        self.done += 1
        self.counts[item.verdict] += 1
        pair = (item.coordinates.get("source", ""), item.coordinates.get("destination", ""))
        if pair in self.counts_of:
            self.counts_of[pair][item.verdict] += 1
            self.left_of[pair] = max(0, self.left_of[pair] - 1)
        if item.verdict.bad:
            self.failure = failure_line(item)

    def words(self) -> str:
        """`3 passed, 1 failed`."""
        return ", ".join(f"{self.counts[v]} {v}" for v in Verdict if self.counts[v])

    def pace(self, now: float) -> str:
        """How long it has taken, how fast it is, and how long it will take."""
        elapsed = max(now - self._began, 0.001)
        said = f"{duration(elapsed)} elapsed"
        if self.done >= _ENOUGH:
            rate = self.done / elapsed
            left = (self.total - self.done) / rate
            said += f", {rate * 60:.0f} cells/min, {duration(left)} left"
        return said


def failure_line(item: ItemResult) -> str:
    """A bad item in one line."""
    because = f": {summary.reason(item)}" if item.because else ""
    return f"{summary.kind(item)}: {item.cell or item.nodeid}{because}"


def duration(seconds: float) -> str:
    """`45 s`, `3:05 min` or `2:03 h`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes}:{rest:02} min"
    return f"{minutes // 60}:{minutes % 60:02} h"


class _Display(Protocol):
    """Where progress is shown."""

    def update(self, item: ItemResult) -> None: ...

    def close(self) -> None: ...


class Live:
    """A pytest plugin that shows on standard error, as it is now, what the controller reports.

    pytest may redirect standard error later on: nothing of that is seen here.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._stream = open(os.dup(2), "w", encoding="utf-8", errors="replace")  # noqa: SIM115, PTH123
        self._quiet = quiet
        self._display: _Display | None = None
        self._tally: Tally | None = None

    def pytest_qmptests_selected(self, matrix: Matrix, folder: Path) -> None:
        """Begin."""
        if self._quiet:
            return
        self._tally = Tally(matrix, time.monotonic())
        kind = _Table if self._stream.isatty() else _Lines
        self._display = kind(self._stream, self._tally, folder)

    def pytest_qmptests_collected(self, nodeids: list[str]) -> None:
        """A cell is run once for each test that takes it."""
        if self._tally is not None:
            self._tally.total = len(nodeids)

    def pytest_qmptests_item(self, result: ItemResult) -> None:
        """Count."""
        if self._tally is not None and self._display is not None:
            self._tally.add(result)
            self._display.update(result)

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._display is not None:
            self._display.close()
            self._display = None
        with contextlib.suppress(OSError):  # nobody reads it any more
            self._stream.close()


class _Lines:
    """For a log: a line for each failure, and one now and then."""

    def __init__(self, stream: TextIO, tally: Tally, folder: Path) -> None:
        self._stream = stream
        self._tally = tally
        self._said_at, self._said_done = time.monotonic(), 0
        self._say(f"{summary.number_of(tally.total, 'cell')}; evidence: {folder}")

    def update(self, item: ItemResult) -> None:
        tally = self._tally
        if item.verdict.bad:
            self._say(tally.failure)
        now = time.monotonic()
        if now - self._said_at < LINE_S or tally.done - self._said_done < tally.total / 10:
            return
        self._said_at, self._said_done = now, tally.done
        self._say(f"{tally.done} of {tally.total}: {tally.words()}; {tally.pace(now)}")

    def close(self) -> None:
        """Nothing to be put back."""

    def _say(self, text: str) -> None:
        with contextlib.suppress(OSError):  # nobody reads it any more
            self._stream.write(f"{printable.one_line(text)}\n")
            self._stream.flush()


class _Table:
    """For a terminal: a row for each pair, below it the pace and the last failure."""

    def __init__(self, stream: TextIO, tally: Tally, folder: Path) -> None:
        from rich.console import Console  # noqa: PLC0415 - a log needs none of it
        from rich.live import Live as RichLive  # noqa: PLC0415

        self._tally = tally
        self._console = Console(file=stream, markup=False, emoji=False)
        self._folder = folder
        self._live = RichLive(
            get_renderable=self._render,
            console=self._console,
            refresh_per_second=REFRESH,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._live.start()

    def update(self, item: ItemResult) -> None:
        """The next refreshment shows it."""

    def close(self) -> None:
        with contextlib.suppress(OSError):  # the terminal is gone
            self._live.stop()

    def _render(self) -> "RenderableType":
        from rich.console import Group  # noqa: PLC0415
        from rich.table import Table  # noqa: PLC0415
        from rich.text import Text  # noqa: PLC0415

        tally = self._tally
        shown = [v for v in Verdict if tally.counts[v] or v in (Verdict.PASSED, Verdict.FAILED)]
        grid = Table(box=None, pad_edge=False, header_style="dim")
        grid.add_column("pair")
        for verdict in shown:
            grid.add_column(verdict, justify="right", style=_STYLES.get(verdict, ""))
        grid.add_column("left", justify="right")
        room = max(3, self._console.height - _FRAME)
        pairs = self._most_telling(room)
        for source, destination in pairs:
            counts = tally.counts_of[source, destination]
            left = tally.left_of[source, destination]
            cells = (str(counts[v] or "") for v in shown)
            pair = printable.one_line(f"{source} -> {destination}")
            grid.add_row(pair, *cells, str(left or ""))
        if hidden := len(tally.counts_of) - len(pairs):
            grid.add_row(f"and {hidden} more pairs", style="dim")
        head = f"{tally.done} of {tally.total}"
        words = f": {tally.words()}" if tally.done else ""
        footer = Text(f"{head}{words}; {tally.pace(time.monotonic())}", no_wrap=True)
        last = Text(
            printable.one_line(tally.failure), style="red", no_wrap=True, overflow="ellipsis"
        )
        where = Text(
            printable.one_line(f"evidence: {self._folder}"),
            style="dim",
            no_wrap=True,
            overflow="ellipsis",
        )
        return Group(grid, Text(""), footer, *([last] if tally.failure else []), where)

    def _most_telling(self, room: int) -> list[tuple[str, str]]:
        """As many pairs as fit, in their order: bad ones before those begun, before others."""
        tally = self._tally
        pairs = list(tally.counts_of)
        if len(pairs) <= room:
            return pairs

        def rank(pair: tuple[str, str]) -> int:
            counts, left = tally.counts_of[pair], tally.left_of[pair]
            if any(counts[verdict] for verdict in Verdict if verdict.bad):
                return 0
            if not left:
                return 3
            return 1 if any(counts[verdict] for verdict in Verdict) else 2

        best = set(sorted(pairs, key=rank)[: room - 1])
        return [pair for pair in pairs if pair in best]


_STYLES = {
    Verdict.PASSED: "green",
    Verdict.FAILED: "bold red",
    Verdict.EXPECTED: "yellow",
    Verdict.LOST: "bold red",
    Verdict.ERROR: "bold magenta",
}
