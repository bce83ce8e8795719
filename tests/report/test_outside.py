"""Nothing outside of a run folder is read or linked, whatever it says: it may be foreign."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from qmptests import files
from qmptests.downtime import sources
from qmptests.downtime.timeline import Timeline
from qmptests.errors import InputError
from qmptests.report import mail, page, runs

PRIVATE = "what only this user may read"


def evidence(run: Path) -> Path:
    """Of its only migration."""
    return next(run.glob("*/*/outcome.json")).parent


def item_elsewhere(run: Path, private: Path) -> None:
    name_item(run, str(private))


def item_above(run: Path, private: Path) -> None:
    name_item(run, f"../{private.name}")


def name_item(run: Path, name: str) -> None:
    file = run / "results.json"
    results = json.loads(file.read_bytes())
    for item in results["items"]:
        item.update(evidence=name, verdict="failed", because="x")
    file.write_text(json.dumps(results))


def folder_is_link(run: Path, private: Path) -> None:
    folder = evidence(run)
    shutil.rmtree(folder)
    folder.symlink_to(private)


def folder_is_link_of_a_run_cut_short(run: Path, private: Path) -> None:
    folder_is_link(run, private)
    (run / "results.json").unlink()


def log_is_link(run: Path, private: Path) -> None:
    name_item(run, str(evidence(run).relative_to(run)))
    for name in ("source.stderr.log", "source.trace.log", "destination.stderr.log"):
        file = evidence(run) / name
        file.unlink()
        file.symlink_to(private / name)


def side_is_elsewhere(run: Path, private: Path) -> None:
    name_item(run, str(evidence(run).relative_to(run)))
    file = evidence(run) / "outcome.json"
    outcome = json.loads(file.read_bytes())
    outcome["source"]["name"] = f"../../../{private.name}/source"
    file.write_text(json.dumps(outcome))


def outcome_is_link(run: Path, private: Path) -> None:
    file = evidence(run) / "outcome.json"
    file.unlink()
    file.symlink_to(private / "outcome.json")


@pytest.mark.parametrize(
    "leads",
    [
        item_elsewhere,
        item_above,
        folder_is_link,
        folder_is_link_of_a_run_cut_short,
        log_is_link,
        side_is_elsewhere,
        outcome_is_link,
    ],
    ids=lambda leads: leads.__name__,
)
def test_it_is_a_note(run: Path, tmp_path: Path, leads: Callable[[Path, Path], None]) -> None:
    private, foreign = tmp_path / "private", tmp_path / "foreign"
    shutil.copytree(evidence(run), private)
    for name in ("source.stderr.log", "source.trace.log", "destination.stderr.log"):
        (private / name).write_text(f"{PRIVATE}\n")
    outcome = private / "outcome.json"
    outcome.write_text(outcome.read_text().replace('"hostname":"', f'"hostname":"{PRIVATE}'))
    shutil.copytree(run, foreign)
    leads(foreign, private)
    told: list[str] = []
    try:
        read = runs.read(foreign)
        told += mail.lines(read)
        page.write(read, tmp_path / "page.html")
        told += [*read.problems, (tmp_path / "page.html").read_text()]
    except InputError as error:
        told.append(str(error))
    for folder in (place for place in foreign.glob("*/*") if not place.is_symlink()):
        try:
            found = sources.open(folder)
            told += [str(moment) for moment in Timeline(found).moments()]
            told += found.problems
        except InputError as error:
            told.append(str(error))
    text = "\n".join(told)
    assert "is not read" in text
    assert PRIVATE not in text
    assert f'href="./../{private.name}' not in text


@pytest.mark.parametrize("name", ["a\0b", "\ud800", "..", "/", "a/../..", "link", "link/x"])
def test_a_name_that_leads_out(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path)
    with pytest.raises(InputError, match=r"is not read|can have this name"):
        files.within(folder, name)


@pytest.mark.parametrize("name", ["", ".", "a", "a/../b", "link/a", "..a"])
def test_a_name_that_stays(name: str, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "link").symlink_to("sub")
    folder = tmp_path / "way"
    folder.symlink_to("folder")
    assert files.within(folder, name) == folder / name
