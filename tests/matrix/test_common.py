"""What bad cells have in common."""

from qmptests.matrix import common
from qmptests.matrix.results import ItemResult, Verdict


def item(verdict: Verdict, **coordinates: str) -> ItemResult:
    name = "-".join(coordinates.values())
    return ItemResult(nodeid=name, verdict=verdict, seconds=1.0, cell=name, coordinates=coordinates)


def matrix(*bad: tuple[str, str]) -> list[ItemResult]:
    """Three sources and three devices on two machine types; those of `bad` fail on both."""
    return [
        item(
            Verdict.FAILED if (source, device) in bad else Verdict.PASSED,
            source=source,
            destination="new",
            machine=machine,
            device=device,
        )
        for source in ("a", "b", "c")
        for device in ("none", "net", "disk")
        for machine in ("one", "two")
    ]


def test_what_all_share_and_others_have_not_is_told() -> None:
    """The destination is everybody's: it explains nothing."""
    assert common.sentence(matrix(("a", "net"), ("b", "net"))) == (
        "all 4 bad cells have device net; 4 of the 6 cells with that are bad"
    )
    few = matrix(("a", "net"), ("a", "none"), ("a", "disk"))
    assert common.sentence(few) == "all 6 bad cells have source a; all 6 cells with that are bad"


def test_two_are_too_few_and_without_a_pattern_nothing_is_told() -> None:
    assert common.sentence(matrix(("a", "net"))) == ""
    assert common.sentence(matrix(("a", "net"), ("b", "disk"))) == ""
    assert common.sentence(matrix()) == ""
    assert common.sentence([]) == ""
    every = [(source, device) for source in "abc" for device in ("none", "net", "disk")]
    assert common.sentence(matrix(*every)) == ""


def test_what_did_not_run_does_not_count() -> None:
    items = matrix(("a", "net"), ("b", "net"), ("c", "net"))
    items += [item(Verdict.SKIPPED, source="a", destination="new", machine="x", device="net")]
    assert common.sentence(items).endswith("all 6 cells with that are bad")
