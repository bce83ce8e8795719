"""What is left at the VM's stop, and how long that takes, told from the inputs."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from qmptests import builds
from qmptests.bench import prediction, rival
from qmptests.bench.prediction import left
from qmptests.bench.setting import Setting

MIB = 1 << 20
sizes = st.integers(0, 1 << 40)


@pytest.fixture(scope="module")
def setting() -> Setting:
    build = builds.resolve("debian:trixie-backports")
    return Setting(build, build)


@pytest.mark.parametrize(
    ("late", "late_after", "threshold", "without", "with_"),
    [
        (816, 32, 2048, 1024, 208),  # it fits, so without REINIT nothing waits for it
        (816, 32, 512, 512, 208),  # QEMU reads dirty data until the rest fits
        (816, 16, 512, 512, 208),
        (816, 33, 512, 1024, 1024),  # nobody knew of it
        (0, 32, 512, 208, 208),
        (816, 32, 200, None, None),  # what can't be copied never fits
    ],
)
def test_what_is_left_by_what_is_waited_for(
    late: int, late_after: int, threshold: int, without: int | None, with_: int | None
) -> None:
    for reinit, expected in ((False, without), (True, with_)):
        rest = left(
            32 * MIB, late * MIB, late_after * MIB, 208 * MIB, threshold * MIB, reinit=reinit
        )
        assert rest == (None if expected is None else expected * MIB)


@given(sizes, sizes, sizes, sizes, sizes)
def test_reinit_never_leaves_more_and_no_one_leaves_less_than_cannot_be_copied(
    initial: int, late: int, late_after: int, stop_copy: int, threshold: int
) -> None:
    no, yes = (
        left(initial, late, late_after, stop_copy, threshold, reinit=reinit)
        for reinit in (False, True)
    )
    assert (no is None) is (yes is None) is (stop_copy > threshold)
    assume(no is not None and yes is not None)
    assert no is not None
    assert yes is not None
    assert stop_copy <= yes <= no <= late + stop_copy


def test_the_downtime_is_all_devices_arcs_and_the_time_to_read_what_is_left(
    setting: Setting,
) -> None:
    assert setting.arcs_ms == pytest.approx((246, 246, 246, 246))
    rate = 795e6
    assert prediction.downtime_ms(setting, reinit=True) == pytest.approx(984 + 208e3 * MIB / rate)
    assert prediction.downtime_ms(setting, reinit=False) == pytest.approx(984 + 1024e3 * MIB / rate)


def test_points_are_of_each_size_moment_and_threshold(setting: Setting) -> None:
    points = list(prediction.points())
    assert len(points) == len({point.name for point in points}) == 12
    for point in points:
        changed = point.apply(setting)
        spec = changed.spec
        assert spec.late_bytes == point.late
        assert changed.threshold == point.threshold
        never = point.moment == "VM's stop"
        assert (spec.late_after > spec.initial_bytes) is never
        assert (
            prediction.downtime_ms(changed, reinit=True)
            == prediction.downtime_ms(changed, reinit=False)
        ) is never


def test_the_rival_differs_in_late_data_and_its_load_alone(setting: Setting) -> None:
    ours, theirs = setting.spec, rival.of(setting).spec
    (rule,) = theirs.rules
    assert rule.on == "write"
    same = ours._replace(late_bytes=rival.LATE, stop_copy=rival.STOP_COPY, rules=(rule,))
    assert same == theirs
