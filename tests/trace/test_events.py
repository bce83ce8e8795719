"""The default set does not flood, and floods are known by name."""

from qmptests.trace import events, formats


def test_patterns_select_what_the_build_has() -> None:
    known = {"vmstate_downtime_save", "vmstate_n_elems", "migrate_set_state"}
    assert events.select(events.LOW_VOLUME, known) == ["migrate_set_state", "vmstate_downtime_save"]


def test_the_default_set_enables_no_flood() -> None:
    named = formats.table().keys() | events.RENAMES.keys() | set(events.RENAMES.values())
    assert events.flooding(events.select(events.LOW_VOLUME, named)) == []
    assert "vfio_state_pending" in events.flooding(named)


def test_a_pattern_has_no_sets() -> None:
    assert not events.matches("a_b", "[a]_b")
    assert events.matches("a_b", "a?b")


def test_events_are_renamed_once() -> None:
    assert not events.RENAMES.keys() & set(events.RENAMES.values())
