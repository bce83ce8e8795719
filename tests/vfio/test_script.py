"""A script says which rules fire at which call: each as often and only where it was asked to."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmptests.vfio.calls import Call
from qmptests.vfio.script import DAMAGE, DO, Script
from qmptests.vfio.spec import Rule

READ = Call("read", detail=(("length", 4096),))
STOP_COPY = Call("set-state", detail=(("state", "stop-copy"),))
RUNNING = Call("set-state", detail=(("state", "running"),))


def fires(script: Script, call: Call, state: str = "", moved: int = 0, since: float = 0) -> bool:
    return bool(script.match(call, state, moved, since))


def test_a_call_that_no_rule_is_about_has_none() -> None:
    script = Script((Rule("read", "hang"),))
    assert script.match(RUNNING, "pre-copy", 0, 0) == []
    assert not script.watches("set-state")
    assert script.watches("read")


def test_a_word_after_the_name_means_only_the_calls_that_have_it() -> None:
    rule = Rule("set-state:stop-copy", "errno", value=5)
    script = Script((rule,))
    assert not fires(script, RUNNING)
    assert script.match(STOP_COPY, "", 0, 0) == [rule]


def test_a_number_after_the_name_is_compared_as_well() -> None:
    assert fires(Script((Rule("read:4096", "hang"),)), READ)
    assert not fires(Script((Rule("read:409", "hang"),)), READ)


@given(nth=st.integers(1, 5), times=st.integers(0, 5), calls=st.integers(0, 15))
def test_it_fires_from_the_nth_call_on_so_many_times(nth: int, times: int, calls: int) -> None:
    script = Script((Rule("read", "hang", nth=nth, times=times),))
    fired = [number for number in range(1, calls + 1) if fires(script, READ)]
    assert fired == [n for n in range(1, calls + 1) if n >= nth and (not times or n < nth + times)]
    assert bool(script.unfired()) is not bool(fired)
    assert script.watches("read") is (not times or len(fired) < times)


@pytest.mark.parametrize(
    ("rule", "state", "moved", "since", "holds"),
    [
        (Rule("read", "hang", states=("stop-copy",)), "pre-copy", 0, 0, False),
        (Rule("read", "hang", states=("stop-copy", "pre-copy")), "pre-copy", 0, 0, True),
        (Rule("read", "hang", after_bytes=100), "", 99, 0, False),
        (Rule("read", "hang", after_bytes=100), "", 100, 0, True),
        (Rule("read", "hang", after_s=0.5), "", 0, 0.49, False),
        (Rule("read", "hang", after_s=0.5), "", 0, 0.5, True),
        (Rule("read", "hang", after_s=0.5, after_bytes=1), "", 0, 0.5, False),
    ],
)
def test_each_condition_must_hold(
    rule: Rule, state: str, moved: int, since: float, holds: bool
) -> None:
    assert fires(Script((rule,)), READ, state, moved, since) is holds


def test_calls_that_do_not_meet_the_other_conditions_are_not_counted() -> None:
    script = Script((Rule("read", "hang", nth=2, states=("stop-copy",)),))
    states = ["pre-copy", "pre-copy", "stop-copy", "pre-copy", "stop-copy", "stop-copy"]
    assert [fires(script, READ, state) for state in states] == [False] * 4 + [True, False]


def test_all_rules_of_a_call_fire_in_the_order_of_the_script() -> None:
    rules = Rule("read", "delay", value=0.1), Rule("read", "errno", value=5)
    assert Script(rules).match(READ, "", 0, 0) == list(rules)


def test_what_fired_is_kept_once_with_the_moment_it_first_did() -> None:
    always, once = Rule("read", "delay", times=0), Rule("set-state", "hold")
    script = Script((once, always))
    for call, since in ((READ, 0.5), (READ, 0.75), (STOP_COPY, 1.0)):
        script.match(call, "", 0, since)
    assert script.fired == [(always, 0.5), (once, 1.0)]


def test_a_rule_that_is_added_counts_from_then_on_and_has_a_number() -> None:
    script = Script((Rule("read", "hang", nth=9),))
    fires(script, READ)
    number = script.add(Rule("read", "hold"))
    assert script.rules[number].do == "hold"
    assert [rule.do for rule in script.match(READ, "", 0, 0)] == ["hold"]
    assert script.rules[number].do == "hold", "one that is over can still be listed"


def test_a_rule_that_was_taken_away_neither_fires_nor_is_missed() -> None:
    missed = Rule("read", "hang", nth=2)
    script = Script((Rule("read", "hold"), missed))
    first = min(script.rules)
    assert script.remove(first).do == "hold"
    assert not fires(script, READ)
    assert script.unfired() == [missed]
    with pytest.raises(KeyError):
        script.remove(first)


CALLS = st.sampled_from([READ, STOP_COPY, RUNNING, Call("data-size")])
RULES = st.builds(
    Rule,
    on=st.sampled_from(["read", "set-state", "set-state:running", "data-size", "bind"]),
    do=st.sampled_from(sorted(DO)),
    nth=st.integers(1, 3),
    times=st.integers(0, 3),
    after_bytes=st.integers(0, 5),
    states=st.sampled_from([(), ("running",), ("pre-copy", "running")]),
)


@given(st.lists(RULES, max_size=6), st.lists(st.tuples(CALLS, st.booleans()), max_size=30))
def test_rules_do_not_disturb_each_other(rules: list[Rule], calls: list[tuple[Call, bool]]) -> None:
    """Together they do what each does by itself."""
    together, alone = Script(tuple(rules)), [Script((rule,)) for rule in rules]
    for moved, (call, running) in enumerate(calls):
        state = "running" if running else "stop"
        each = [rule for script in alone for rule in script.match(call, state, moved, moved)]
        assert together.match(call, state, moved, moved) == each
    assert together.unfired() == [rule for script in alone for rule in script.unfired()]


def test_damage_is_among_what_can_be_done() -> None:
    assert set(DO) > DAMAGE
