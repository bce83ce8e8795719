"""The verdict on emulated devices: what they have seen is part of every result."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmptests.migration.verdict import of_devices
from qmptests.outcome import Result
from qmptests.outcome.record import (
    ArrivalRecord,
    BuildRecord,
    ChunkRecord,
    DeviceRecord,
    GuestRecord,
    SideRecord,
    TraceRecord,
)

BUILD = BuildRecord(name="b", spec="b", version="1", version_text="1", digest="", origin={})
SENT = [ChunkRecord(kind="end", generation=0, bytes=4096)]
RIGHT = ArrivalRecord(received_bytes=4096, problem="", chunks=SENT)


def device(**fields: Any) -> DeviceRecord:
    return DeviceRecord(name="vf0", profile="idle", seed=1, state="running", **fields)


def side(name: str, *devices: DeviceRecord, problems: tuple[str, ...] = ()) -> SideRecord:
    return SideRecord(
        name=name,
        build=BUILD,
        argv=[],
        environment={},
        trace=TraceRecord(enabled=[], unmatched=[]),
        guest=GuestRecord(),
        devices=list(devices),
        emulation_problems=list(problems),
    )


SOURCE = side("source", device(sent=SENT))


@given(st.sampled_from(Result), st.sampled_from(["", "because"]))
def test_what_arrived_whole_changes_nothing(result: Result, error: str) -> None:
    there = [side("destination", device(arrival=RIGHT))]
    assert of_devices(result, error, SOURCE, there) == (result, error)
    assert of_devices(result, error, None, []) == (result, error)


@pytest.mark.parametrize(
    ("arrival", "words"),
    [
        (None, "device vf0: its data was sent, and none arrived"),
        (ArrivalRecord(received_bytes=9, problem="a bit", chunks=[]), "device vf0: a bit"),
        (
            ArrivalRecord(received_bytes=0, problem="", chunks=[]),
            "device vf0: it was given nothing; sent was end 0: 4096 bytes",
        ),
    ],
)
def test_completed_means_that_devices_have_their_data(
    arrival: ArrivalRecord | None, words: str
) -> None:
    there = side("destination", device(arrival=arrival))
    judged = of_devices(Result.COMPLETED, "", SOURCE, [there])
    assert judged == (Result.DEVICE_DATA_WRONG, words)
    failed = of_devices(Result.CANCELLED, "cancelled", SOURCE, [there])
    assert failed == (Result.CANCELLED, "cancelled"), "nothing was to arrive"


def test_only_the_last_destination_has_to_have_it() -> None:
    gave_up, there = side("destination"), side("destination-2", device(arrival=RIGHT))
    assert of_devices(Result.COMPLETED, "", SOURCE, [gave_up, there])[0] is Result.COMPLETED
    assert of_devices(Result.COMPLETED, "", SOURCE, [there, gave_up])[0] is (
        Result.DEVICE_DATA_WRONG
    )


@given(st.sampled_from(Result))
def test_an_emulation_that_failed_outweighs_all(result: Result) -> None:
    here = side("source", device(sent=SENT, unfired=["rule"]), problems=("it died first",))
    found, why = of_devices(result, "because", here, [side("destination")])
    assert (found, why) == (Result.EMULATION_FAILED, "source: it died first; because")


@given(st.sampled_from(Result))
def test_a_rule_that_never_fired_makes_any_result_worthless(result: Result) -> None:
    here = side("source", device(sent=SENT, unfired=["read+flip"]))
    there = [side("destination", device(arrival=RIGHT))]
    found, why = of_devices(result, "because", here, there)
    if result in (Result.INTERRUPTED, Result.ENVIRONMENT):
        assert (found, why) == (result, "because")
    else:
        assert found is Result.RULE_NEVER_FIRED
        assert why == "device vf0: the rule 'read+flip' never fired; because"


def test_a_rule_for_both_sides_has_to_fire_on_one() -> None:
    here = side("source", device(sent=SENT, unfired=["write+flip"]))
    there = side("destination", device(arrival=RIGHT, fired=["write+flip"]))
    assert of_devices(Result.COMPLETED, "", here, [there]) == (Result.COMPLETED, "")
