"""What a device wrote to memory, and what its like found there, decide of a completed migration."""

from typing import Any

import msgspec
import pytest

from qmptests.migration import verdict
from qmptests.outcome.record import DeviceRecord, Result, SideRecord


def dma(runs: str, problems: list[str] | None = None) -> dict[str, Any]:
    return {"start": 0x4000000, "pages": 3, "bursts": 3, "runs": runs, "problems": problems or []}


def side(name: str, **fields: Any) -> SideRecord:
    record = {"name": "vf0", "profile": "idle", "seed": 0, "state": "running", **fields}
    build = {"name": "b", "spec": "b", "version": "1", "version_text": "1", "digest": ""}
    return msgspec.convert(
        {
            "name": name,
            "build": build,
            "argv": [],
            "environment": {},
            "trace": {"enabled": [], "unmatched": []},
            "guest": {},
            "devices": [msgspec.to_builtins(msgspec.convert(record, DeviceRecord))],
        },
        SideRecord,
    )


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (dma("0 2 1*2"), ""),
        (dma("0 2 1 2"), "page at iova 0x4003000: burst 1 was written by DMA, burst 2 arrived"),
        (
            dma("0*4"),
            "page at iova 0x4001000: burst 2 was written by DMA, none arrived "
            "(so with 3 of 3 pages)",
        ),
        (dma("0 2 1*2", ["page 0x1 is wrong"]), "page 0x1 is wrong"),
        (None, "nobody looked for the 3 pages that it had written to memory"),
    ],
)
def test_each_page_must_be_the_one_that_was_written_last(found: Any, words: str) -> None:
    source = side("source", dma_written=dma("0 2 1*2"))
    judged = verdict.of_devices(
        Result.COMPLETED, "", source, [side("destination", dma_found=found)]
    )
    wrong = (Result.DEVICE_DATA_WRONG, f"device vf0: {words}")
    assert judged == (wrong if words else (Result.COMPLETED, ""))


def test_without_dma_nothing_has_to_be_found() -> None:
    sides = side("source"), [side("destination")]
    assert verdict.of_devices(Result.COMPLETED, "", *sides) == (Result.COMPLETED, "")
