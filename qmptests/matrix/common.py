"""What bad cells have in common, and good ones have not: pure."""

from collections.abc import Sequence

from qmptests.matrix.results import ItemResult

#: Of fewer bad cells than this anything may be common by chance.
FEWEST = 3


def sentence(items: Sequence[ItemResult]) -> str:
    """The coordinates that all bad cells of a run share, and how many of those that have them ran.

    "" where there is nothing to tell: few are bad, or they share nothing that others have not.
    """
    ran = [item for item in items if item.cell and item.verdict.ran]
    bad = [item for item in ran if item.verdict.bad]
    if len(bad) < FEWEST or len(bad) == len(ran):
        return ""
    shared = {
        axis: value
        for axis, value in bad[0].coordinates.items()
        if all(item.coordinates.get(axis) == value for item in bad)
        and any(item.coordinates.get(axis) != value for item in ran)
    }
    if not shared:
        return ""
    like = [item for item in ran if shared.items() <= item.coordinates.items()]
    words = ", ".join(f"{axis} {value}" for axis, value in shared.items())
    which = "all" if len(like) == len(bad) else f"{len(bad)} of the"
    return f"all {len(bad)} bad cells have {words}; {which} {len(like)} cells with that are bad"
