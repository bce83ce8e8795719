"""The downtimes by different measures as a person reads them: at most 72 columns, for a mail."""

from qmptests.downtime.layout import wrapped
from qmptests.downtime.measures import Interval, Measures

#: Differences and waiting below this are not told, in microseconds.
SMALL_US = 1000


def lines(measures: Measures) -> list[str]:
    """The figures, where they differ, and what could not be told."""
    figures = (
        ("QEMU", measures.qemu_us, None),
        ("ours", measures.ours_us, measures.ours_uncertainty_us),
        ("the guest's", measures.guest_us, measures.guest_uncertainty_us),
    )
    told = [f"{name} {_figure(us, within)}" for name, us, within in figures if us is not None]
    verdict = {None: "", True: " (they agree)", False: " (they differ)"}[measures.agree]
    out = wrapped("measured", f"{', '.join(told) or 'not known'}{verdict}")
    for interval in measures.differences:
        if abs(interval.us) >= SMALL_US:
            out += wrapped("", _difference(interval))
    for interval in measures.within:
        if interval.us >= SMALL_US:
            out += wrapped("", f"in it {_ms(interval.us)}, {interval.name}: {interval.why}")
    for problem in measures.problems:
        out += wrapped("note", problem)
    return out


def _difference(interval: Interval) -> str:
    about = f"{interval.name}: {interval.why}"
    if interval.name == "guest":
        return f"{_ms(interval.us)} {'more' if interval.us > 0 else 'less'}, {about}"
    verb = "leaves out" if interval.us > 0 else "adds"
    return f"QEMU {verb} {_ms(interval.us)}, {about}"


def _figure(us: int, uncertainty_us: int | None) -> str:
    """QEMU's has whole milliseconds."""
    if us % 1000 == 0 and uncertainty_us is None:
        return f"{us // 1000} ms"
    about = f" +- {uncertainty_us / 1e3:.1f}" if uncertainty_us else ""
    return f"{us / 1e3:.1f}{about} ms"


def _ms(us: int) -> str:
    return f"{abs(us) / 1e3:.1f} ms"
