"""Arguments are read back as QEMU printed them, by the same names in every version."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmptests.trace import formats
from qmptests.trace.formats import Format, arguments, table
from qmptests.trace.parser import Event


@pytest.mark.parametrize(
    ("event", "text", "args"),
    [
        ("migrate_set_state", "new state pre-switchover", {"new_state": "pre-switchover"}),
        ("loadvm_approve_switchover", "Approver vf0", {"approver": "vf0"}),
        (
            "loadvm_approve_switchover",
            "Switchover ack pending num=1",
            {"switchover_ack_pending_num": 1},
        ),
        ("migrate_send_rp_message", "7: len 0", {"type": 7, "len": 0}),
        (
            "vfio_migration_set_state",
            " (VFIO_FD4) new state STOP_COPY, recover state ERROR",
            {"label": "VFIO_FD4", "new_state": "STOP_COPY", "recover_state": "ERROR"},
        ),
        (
            "vfio_load_state",
            " (vf0) data 0xffffffffef100005",
            {"label": "vf0", "data": 2**64 - 0x10EFFFFB},
        ),
        (
            "vmstate_downtime_save",
            "type=non-iterable idstr=0000:00:1f.2/ich9_ahci instance_id=0 downtime=183",
            {
                "type": "non-iterable",
                "idstr": "0000:00:1f.2/ich9_ahci",
                "instance_id": 0,
                "downtime": 183,
            },
        ),
        ("process_incoming_migration_co_end", "ret=-22", {"ret": -22}),
        (
            "process_incoming_migration_co_end",
            "ret=0 postcopy-state=3",
            {"ret": 0, "postcopy_state": 3},
        ),
        (
            "some_vfio_event",
            " (vf0) size= 0x10, left-over=a;",
            {"label": "vf0", "size": 16, "left_over": "a"},
        ),
        ("migrate_set_state", "something else a=1", {"a": 1}),
        ("savevm_send_switchover_start", "", {}),
    ],
)
def test_arguments_have_names_and_types(event: str, text: str, args: dict[str, int | str]) -> None:
    assert arguments(event, text) == args


TEXTS = st.text(st.characters(exclude_characters=" (),=:", exclude_categories=["C"]), min_size=1)
FORMATS = [one for known in table().values() for one in known]


@given(st.sampled_from(FORMATS), st.data())
def test_each_format_of_the_table_reads_what_it_prints(known: Format, data: st.DataObject) -> None:
    values = tuple(
        data.draw(TEXTS if reader is str else st.integers(0, 2**64 - 1)) for reader in known.readers
    )
    assert known.read(known.template % values) == dict(zip(known.names, values, strict=True))


@given(st.sampled_from(sorted(table())), st.text())
def test_no_text_breaks_a_format(event: str, text: str) -> None:
    assert isinstance(arguments(event, text), dict)


def test_a_format_reads_padding_and_percent() -> None:
    known = Format("%3d%% of 0x%08x %p %c %o", ("share", "flags", "at", "mark", "mode"))
    assert known.read("  7% of 0x0000000a (nil) x 17") == {
        "share": 7,
        "flags": 10,
        "at": "(nil)",
        "mark": "x",
        "mode": 15,
    }


@pytest.mark.parametrize(("template", "names"), [("%d", ()), ("%q", ("a",)), ("x", ("a",))])
def test_a_format_that_no_event_uses_is_refused(template: str, names: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="can't compile the format"):
        Format(template, names)


def test_an_event_knows_its_device() -> None:
    assert Event("vfio_x", " (0000:3b:00.2) state 1", None, None, 1).label == "0000:3b:00.2"
    assert Event("vm_state_notify", "running 1 reason 9 (running)", None, None, 1).label is None


def test_the_table_names_no_argument_twice() -> None:
    assert all(len(set(one.names)) == len(one.names) for one in FORMATS)
    assert formats.key_name("new state") == formats.key_name("new-state") == "new_state"
