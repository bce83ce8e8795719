"""Folders of evidence: whole or visibly partial, never overwritten, never a traceback."""

import json
import os
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qmptests.errors import EnvironmentFailure, InputError
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
