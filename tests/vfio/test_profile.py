"""What a person writes of an emulated device becomes numbers, or one line of what is wrong."""

import errno
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmptests import toml
from qmptests.errors import InputError
from qmptests.vfio import profile as profiles
from qmptests.vfio import script, spec, when
from qmptests.vfio.abi import MigrationFlag
from qmptests.vfio.profile import VfioProfile, override, to_spec
from qmptests.vfio.requests import FEATURES, REQUESTS, SET_STATE
from qmptests.vfio.spec import Bar, Rule, Spec
from qmptests.vfio.when import When

P2P, PRE_COPY, STOP_COPY = MigrationFlag.P2P, MigrationFlag.PRE_COPY, MigrationFlag.STOP_COPY


def made(**keys: Any) -> Spec:
    return to_spec(toml.structure(keys, "x.toml", VfioProfile), "vf0", 7)


def overridden(text: str, profile: VfioProfile | None = None) -> VfioProfile:
    pairs = [(key, value) for key, _, value in (o.partition("=") for o in text.split(","))]
    return override(profile or VfioProfile(), pairs, f"device 'x,{text}'")


def test_an_empty_table_is_a_device_with_the_defaults_of_a_spec() -> None:
    assert made() == Spec(name="vf0", seed=7)


def test_sizes_and_rates_become_bytes() -> None:
    found = made(
        initial="32M",
        dirty="4M",
        dirty_rate="100M",
        dirty_limit="8M",
        stop_copy="64M",
        late="16M",
        late_after="8M",
        late_times=2,
        read_bandwidth="1G",
        write_bandwidth="2G",
        watch_writes=True,
        announce="1000",
    )
    assert found == Spec(
        name="vf0",
        seed=7,
        initial_bytes=32 << 20,
        dirty_bytes=4 << 20,
        dirty_rate=100 << 20,
        dirty_limit=8 << 20,
        stop_copy=64 << 20,
        late_bytes=16 << 20,
        late_after=8 << 20,
        late_times=2,
        read_bandwidth=1 << 30,
        write_bandwidth=2 << 30,
        watch_writes=True,
        announce=1000,
    )


def test_what_some_drivers_and_older_kernels_do_is_said_in_a_word() -> None:
    unusual = {
        "stale_info": True,
        "dry_is_eof": True,
        "refuse_at_write": True,
        "msix_mappable": False,
        "dma_buf": False,
    }
    usual = {key: not value for key, value in unusual.items()}
    for made_of, keys in ((made(), usual), (made(**unusual), unusual)):
        assert {key: getattr(made_of, key) for key in keys} == keys


def test_a_number_is_bytes() -> None:
    assert made(stop_copy=8192).stop_copy == 8192


def test_no_more_than_a_seconds_worth_of_dirty_data_waits_unless_said_otherwise() -> None:
    assert made(dirty_rate="10000").dirty_limit == 8192
    assert made(dirty_rate="1M", dirty_limit=0).dirty_limit == 0


@pytest.mark.parametrize(
    ("keys", "flags"),
    [
        ({}, STOP_COPY | P2P | PRE_COPY),
        ({"p2p": False}, STOP_COPY | PRE_COPY),
        ({"precopy": False}, STOP_COPY | P2P),
        ({"migration": False}, 0),
    ],
)
def test_what_a_device_can_do_becomes_its_migration_flags(
    keys: dict[str, bool], flags: int
) -> None:
    assert made(**keys).migration == flags


def test_bars_have_the_slots_that_those_before_them_left() -> None:
    assert made(bars=["64K", "1G,64-bit,prefetchable", "1M,no-mmap"]).bars == (
        Bar(0, 64 << 10),
        Bar(1, 1 << 30, wide=True, prefetchable=True),
        Bar(3, 1 << 20, mmap=False),
    )


def test_a_rule_has_its_values_in_seconds_and_bytes() -> None:
    rule = When(
        call="set-state:stop-copy",
        do="delay=50ms",
        nth=2,
        times=0,
        after_bytes="8M",
        after="1.5s",
        in_=["pre-copy"],
    )
    assert rule.rule() == Rule(
        on="set-state:stop-copy",
        do="delay",
        nth=2,
        times=0,
        after_bytes=8 << 20,
        after_s=1.5,
        states=("pre-copy",),
        value=0.05,
        words="set-state:stop-copy+delay=50ms+nth=2+times=0+after_bytes=8M+after=1.5s+in=pre-copy",
    )


@pytest.mark.parametrize(
    ("do", "value"),
    [
        ("errno=EIO", errno.EIO),
        ("errno=5", errno.EIO),
        ("reinit=16M", 16 << 20),
        ("dma=12", 12),
        ("hold", 0),
    ],
)
def test_what_is_done_has_a_value_of_its_kind(do: str, value: float) -> None:
    rule = When(call="data-size", do=do).rule()
    assert (rule.do, rule.value) == (do.partition("=")[0], value)


def test_rules_of_one_side_are_left_out_on_the_other() -> None:
    profile = VfioProfile(
        when=[
            When(call="read", do="hang"),
            When(call="read", do="hold", side="source"),
            When(call="write", do="hold", side="destination"),
        ]
    )
    of = {side: to_spec(profile, "", 0, side=side).rules for side in when.SIDES}
    assert [[rule.on for rule in of[side]] for side in when.SIDES] == [
        ["read", "read", "write"],
        ["read", "read"],
        ["read", "write"],
    ]


@pytest.mark.parametrize(
    ("keys", "error"),
    [
        ({"stop_copy": "1000"}, "vfio.stop_copy: 1000 is not a multiple of 4096 bytes"),
        ({"stop_copy": "0"}, "vfio.stop_copy: 0 has no room for the stream's end: 4K"),
        ({"initial": "2T"}, "vfio.initial: 2T is impossible: a size is from 0 to 1T"),
        ({"initial": -4096}, "vfio.initial: -4096 is impossible: a size is from 0 to 1T"),
        ({"announce": 1 << 64}, f"vfio.announce: {1 << 64} is impossible: a size is from 0 to "),
        ({"dirty": "much"}, "vfio.dirty: 'much' is not a size"),
        ({"late_times": 0}, "vfio.late_times: 0 is not a number from 1"),
        (
            {"late": "4M", "late_after": "8M", "initial": "4M"},
            "vfio.late_after: 8M are never read: initial and dirty are 4M together",
        ),
        ({"msix": 2049}, "vfio.msix: 2049 is not a number from 0 to 2048"),
        ({"dirty_tracking": "iomu"}, "vfio.dirty_tracking: unknown word 'iomu'; near it: iommu"),
        ({"bars": ["12K"]}, "vfio.bars[0]: 12K is not a power of two from 4K on"),
        ({"bars": ["64K", "4G"]}, "vfio.bars[1]: 4G is more than a 32-bit BAR can have"),
        ({"bars": ["4K,nommap"]}, "vfio.bars[0]: unknown word 'nommap'; near it: no-mmap"),
        ({"bars": ["4K,64-bit"] * 4}, "vfio.bars: they take 8 of 6 slots"),
        ({"latency": {"red": "1ms"}}, "vfio.latency: unknown call 'red'; near it: read"),
        ({"latency": {"read": "1"}}, "vfio.latency: read: '1' is not a time"),
        ({"device_options": "a=b,fd=3"}, "vfio.device_options: 'fd' is set by qmptests"),
    ],
)
def test_what_no_device_can_have_is_named_with_its_key(keys: dict[str, Any], error: str) -> None:
    with pytest.raises(InputError) as caught:
        made(**keys)
    assert str(caught.value).startswith(f"x.toml: {error}")


@pytest.mark.parametrize(
    ("rule", "error"),
    [
        ({"call": "set-stat"}, "call: unknown call 'set-stat'; near it: set-state"),
        ({"call": "set-state:stopcopy"}, "unknown word 'stopcopy'; near it: stop-copy"),
        ({"call": "read:much"}, "call: 'read:much': only a number can follow 'read:'"),
        ({"do": "explode"}, "do: unknown action 'explode'; there are hold, errno"),
        ({"do": "hold=1"}, "do: 'hold' takes no value"),
        ({"do": "errno"}, "do: 'errno' needs a value, such as errno=EIO"),
        ({"do": "errno=EIOO"}, "do: errno: unknown errno 'EIOO'; near it: EIO"),
        ({"do": "delay=50"}, "do: delay: '50' is not a time"),
        ({"do": "reinit=1K"}, "do: reinit: 1K is not a multiple of 4096 bytes"),
        ({"do": "dma=many"}, "do: dma: 'many' is not a number"),
        ({"do": "interrupt=4"}, "do: the device has no vector 4"),
        ({"call": "bind", "do": "flip"}, "do: 'flip' is done to the data of a read, not at 'bind'"),
        ({"in": ["precopy"]}, "in: unknown state 'precopy'; near it: pre-copy"),
        ({"nth": 0}, "nth counts from 1"),
        ({"times": -1}, "nth counts from 1, times from 0"),
        ({"after": "soon"}, "after: 'soon' is not a time"),
        ({"after_bytes": "far"}, "after_bytes: 'far' is not a size"),
        ({"side": "dest"}, "side: unknown side 'dest'; there are source, destination"),
    ],
)
def test_what_is_wrong_in_a_rule_is_named_with_its_number(rule: dict[str, Any], error: str) -> None:
    good = {"call": "read", "do": "hold"}
    with pytest.raises(InputError) as caught:
        made(when=[good, {**good, **rule}])
    text = str(caught.value)
    assert text.startswith("x.toml: vfio.when[1].")
    assert error in text


@pytest.mark.parametrize(
    ("table", "error"),
    [
        ({"inital": 1}, r"vfio: unknown key 'inital'; near it: initial"),
        ({"when": [{}, {"cal": ""}]}, r"vfio\.when\[1\]: unknown key 'cal'; near it: call"),
        ({"zz": 1}, r"vfio: unknown key 'zz'; there are initial, dirty, "),
    ],
)
def test_an_unknown_key_is_answered_with_the_nearest(table: dict[str, Any], error: str) -> None:
    with pytest.raises(InputError, match=error):
        profiles.check_keys(table)


def test_keys_of_a_command_line_replace_those_of_the_profile() -> None:
    found = overridden("stop_copy=1G,p2p=off,msix=0,dirty_tracking=none,bars=64K+1M")
    assert found == VfioProfile(
        stop_copy="1G", p2p=False, msix=0, dirty_tracking="none", bars=["64K", "1M"]
    )
    assert overridden("latency=data-size=1ms+set-state:stop=2ms").latency == {
        "data-size": "1ms",
        "set-state:stop": "2ms",
    }


def test_rules_and_device_options_of_a_command_line_are_added_to_the_profile() -> None:
    old = VfioProfile(when=[When(call="read", do="hang")], device_options="x-a=1")
    found = overridden("when=bind+hold,addr=0a.0,when=write+errno=EIO+nth=2,x-b=2", old)
    assert found.when == [
        When(call="read", do="hang"),
        When(call="bind", do="hold"),
        When(call="write", do="errno=EIO", nth=2),
    ]
    assert found.device_options == "x-a=1,addr=0a.0,x-b=2"


def test_a_comma_in_a_device_option_stays_doubled() -> None:
    found = override(VfioProfile(), [("romfile", "a,b")], "")
    assert found.device_options == "romfile=a,,b"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("stop_cpy=1G", "unknown key 'stop_cpy'; near it: stop_copy"),
        ("adr=0a.0", "unknown key 'adr'; near it: addr"),
        ("stop_copy=5", "vfio.stop_copy: 5 is not a multiple of 4096 bytes"),
        ("p2p=maybe", "vfio.p2p: 'maybe' is neither on nor off"),
        ("msix=4K", "vfio.msix: '4K' is not a number"),
        ("when=read", "when: 'read' is not CALL+DO, such as set-state:stop-copy+errno=EIO"),
        ("when=read+hold+nht=2", "when: 'read+hold+nht=2': unknown key 'nht'; near it: nth"),
        ("when=read+hold+nth=b", "when: 'read+hold+nth=b': nth: 'b' is not a number"),
        ("when=reed+hold", "vfio.when[0].call: unknown call 'reed'; near it: read"),
    ],
)
def test_what_is_wrong_on_a_command_line_is_said_in_one_line(text: str, error: str) -> None:
    with pytest.raises(InputError) as caught:
        overridden(text)
    assert str(caught.value).startswith(f"device 'x,{text}': {error}")


CALLS = st.sampled_from(sorted(when.CALLS)) | st.sampled_from(when.STATES).map("set-state:".__add__)
DO_VALUES = {
    script.NOTHING: st.just(""),
    script.ERRNO: st.sampled_from(sorted(errno.errorcode.values())).map("={}".format),
    script.SECONDS: st.integers(0, 999).map("={}ms".format),
    script.BYTES: st.integers(0, 999).map("={}M".format),
    script.NUMBER: st.integers(1, 3).map("={}".format),
}
DOS = st.sampled_from(sorted(script.DO.items())).flatmap(
    lambda item: DO_VALUES[item[1]].map(item[0].__add__)
)
SIZES = st.integers(0, 1 << 20).map(lambda pages: f"{pages * 4}K")
TIMES = st.integers(0, 999).map("{}ms".format)
WHENS = st.builds(
    When,
    call=CALLS,
    do=DOS,
    nth=st.integers(1, 9),
    times=st.integers(0, 9),
    after_bytes=SIZES,
    after=TIMES,
    in_=st.lists(st.sampled_from(when.STATES), unique=True, max_size=3),
    side=st.sampled_from(when.SIDES),
).filter(lambda w: w.do not in script.OF_READS or w.call == "read")


def test_every_call_that_is_decoded_has_its_name_and_words_here() -> None:
    decoded = [r.name for of in REQUESTS.values() for r in of.values()]
    decoded += [f.name for f in (*FEATURES.values(), SET_STATE)]
    assert set(decoded) <= set(when.CALLS)
    for example in ("region-info:config", "set-irqs:msix", "set-irqs:trigger", "read:4096"):
        when.check_call(example)
    for example in ("probe:dma-logging-start", "dma-buf:bar0", "irq-info:intx", "feature:99"):
        when.check_call(example)


@given(WHENS)
def test_a_rule_in_one_line_is_read_back(rule: When) -> None:
    assert when.parse(rule.line()) == rule
    assert "," not in rule.line()


PROFILES = st.builds(
    VfioProfile,
    initial=SIZES,
    dirty_rate=SIZES,
    dirty_limit=st.none() | SIZES,
    stop_copy=SIZES.filter("0K".__ne__),
    reinit=st.booleans(),
    bars=st.lists(st.sampled_from(["4K", "1M,no-mmap"]), min_size=1, max_size=6),
    latency=st.dictionaries(CALLS, TIMES, max_size=3),
    when=st.lists(WHENS, max_size=3),
)


@given(PROFILES)
def test_a_profile_survives_json_and_a_spec_too(profile: VfioProfile) -> None:
    assert msgspec.json.decode(msgspec.json.encode(profile), type=VfioProfile) == profile
    found = to_spec(profile, "vf0", 1, profile_name="x")
    assert spec.from_json(json.loads(json.dumps(spec.to_json(found)))) == found


KEYS = [field.name for field in msgspec.structs.fields(VfioProfile)]
WORDS = ["=", "+", ":", "1", "4K", "on", "read", "hold", "errno", "nth", "64-bit", "-", "\0", "٣"]


@given(
    st.sampled_from([*KEYS, "addr", "x-y", "z"]),
    st.lists(st.sampled_from(WORDS)).map("".join) | st.text(max_size=9),
)
def test_no_override_is_more_than_an_input_error(key: str, value: str) -> None:
    try:
        assert isinstance(override(VfioProfile(), [(key, value)], "x"), VfioProfile)
    except InputError as error:
        assert str(error).startswith("x: ")  # noqa: PT017
