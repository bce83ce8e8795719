"""Folders of evidence: whole or visibly partial, never overwritten, never a traceback."""

import json
import os
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qmptests.errors import EnvironmentFailure, InputError, QmptestsError
from qmptests.outcome import SCHEMA, OutcomeRecord, Result, folder
from qmptests.outcome.record import HostRecord, PlanRecord


def record() -> OutcomeRecord:
    return OutcomeRecord(
        qmptests="1",
        name="x",
        created=0.0,
        host=HostRecord(
            hostname="h", kernel="k", cpu="c", cpus=1, memory_bytes=1, python="3", load_1min=0.0
        ),
        plan=PlanRecord(
            machine="pc-q35-10.0",
            accelerator="tcg",
            definition={},
            capabilities={},
            parameters={},
            transport="unix",
            address_form="uri",
            trace=[],
            expected="completed",
            timeout_s=1.0,
        ),
        result=Result.COMPLETED,
    )


def test_a_folder_gets_its_name_when_it_is_whole(tmp_path: Path) -> None:
    final = tmp_path / "deep" / "run"
    partial = folder.begin(final)
    assert partial.name == "run.partial"
    assert not final.exists()
    assert folder.finish(partial, record()) == final
    assert folder.load(final) == folder.load(final / "outcome.json") == record()
    assert not partial.exists()


def test_a_folder_that_is_taken_away_is_not_said_to_stay(tmp_path: Path) -> None:
    partial = folder.begin(tmp_path / "run")
    partial.rename(tmp_path / "elsewhere")
    with pytest.raises(EnvironmentFailure, match=r"removed or renamed while it was written$"):
        folder.finish(partial, record())
    assert not (tmp_path / "run").exists()


def test_results_are_never_overwritten(tmp_path: Path) -> None:
    folder.finish(folder.begin(tmp_path / "run"), record())
    with pytest.raises(InputError, match="exists already: results are never overwritten"):
        folder.begin(tmp_path / "run")


def test_a_partial_folder_of_a_killed_run_is_named(tmp_path: Path) -> None:
    folder.begin(tmp_path / "run")
    with pytest.raises(InputError, match="another run writes it, or was killed; remove it first"):
        folder.begin(tmp_path / "run")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write to read-only folders")
def test_a_folder_that_can_not_be_written_is_one_line(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(EnvironmentFailure, match=r"cannot create .*: Permission denied"):
        folder.begin(tmp_path / "run")


def test_a_path_through_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentFailure, match=r"cannot create .*: Not a directory"):
        folder.begin(tmp_path / "file" / "run")


def test_an_outcome_of_another_schema_says_who_wrote_it(tmp_path: Path) -> None:
    data = msgspec.to_builtins(record()) | {"schema": SCHEMA + 1, "qmptests": "9.9"}
    (tmp_path / "outcome.json").write_text(json.dumps(data))
    with pytest.raises(InputError, match=rf"has schema {SCHEMA + 1}, .* that wrote it \(9.9\)"):
        folder.load(tmp_path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=200))
def test_no_file_is_more_than_an_input_error(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "outcome.json").write_bytes(data)
    with pytest.raises(InputError):
        folder.load(tmp_path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    key=st.sampled_from(sorted(OutcomeRecord.__struct_fields__)),
    value=st.none() | st.integers() | st.text(max_size=5) | st.lists(st.integers(), max_size=2),
)
def test_a_damaged_outcome_is_an_input_error_or_still_right(
    tmp_path: Path, key: str, value: object
) -> None:
    data = msgspec.to_builtins(record()) | {key: value}
    (tmp_path / "outcome.json").write_text(json.dumps(data))
    try:
        folder.load(tmp_path)
    except InputError as error:
        assert "\n" not in str(error)  # noqa: PT017


def test_of_many_that_want_one_name_each_gets_another(tmp_path: Path) -> None:
    """They find out and take it in one step, however close together they come."""
    start = threading.Barrier(8)

    def take(make: Callable[[Path], Path]) -> Path:
        start.wait()
        return folder.first_free(tmp_path / "in" / "run", make)

    for make, ending in ((folder.begin, folder.PARTIAL), (folder.make, "")):
        with ThreadPoolExecutor(8) as pool:
            got = sorted(pool.map(take, [make] * 8))
        names = ["run", *(f"run-{number}" for number in range(2, 9))]
        assert {path.name for path in got} == {f"{name}{ending}" for name in names}
        assert sorted((tmp_path / "in").iterdir()) == got
        shutil.rmtree(tmp_path / "in")


def test_what_is_wrong_with_a_place_is_not_tried_again(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for make in (folder.begin, folder.make):
        with pytest.raises(QmptestsError, match="Not a directory"):
            folder.first_free(tmp_path / "file" / "run", make)


def test_a_folder_that_was_finished_in_between_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look for the final name and the making of the partial one."""
    other = folder.begin(tmp_path / "run")
    looks: list[Path] = []

    def look(path: Path) -> bool:
        looks.append(path)
        if len(looks) == 1:
            return False  # and now the other run finishes
        return path.exists()

    folder.finish(other, record())
    monkeypatch.setattr("os.path.lexists", look)
    with pytest.raises(InputError, match="exists already"):
        folder.begin(tmp_path / "run")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_folders_in_a_new_one_do_not_take_each_others_place(tmp_path: Path) -> None:
    """Two workers' first cells: each finds that there is no folder of the module."""
    start = threading.Barrier(8)

    def begin(name: str) -> Path:
        start.wait()
        return folder.begin(tmp_path / name)

    for number in range(20):
        with ThreadPoolExecutor(8) as pool:
            got = set(pool.map(begin, [f"{number}/module/{name}" for name in "abcdefgh"]))
        assert len(got) == 8


def test_a_folder_that_became_a_link_is_not_finished(tmp_path: Path) -> None:
    """Who owns the folder above can do that; the modes of what the link means must stay."""
    victim = tmp_path / "victim"
    victim.mkdir(0o700)
    (victim / "precious").touch(0o600)
    partial = folder.begin(tmp_path / "results", 0o755)
    partial.rename(tmp_path / "aside")
    partial.symlink_to(victim)
    with pytest.raises(EnvironmentFailure, match="is a link now"):
        folder.finish(partial, record(), 0o755)
    assert [path.name for path in victim.iterdir()] == ["precious"]
    assert victim.stat().st_mode & 0o777 == 0o700
