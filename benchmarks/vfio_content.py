"""What making and checking a device's data costs, beside a plain copy of the same size.

    python -m benchmarks.vfio_content [--size-mib 1024] [--times 5]

Made as the source makes it: 1 MiB at a time into one buffer. Checked as the destination checks it:
from a memfd, read 1 MiB at a time; and beside it only reading that memfd. One core, one process.
"""

import argparse
import os
import time
from collections.abc import Callable, Iterator

from benchmarks import spread
from qmptests.vfio.calls import Kind, Span
from qmptests.vfio.content import PAGE, Checker, Content

READ = 1 << 20


def spans(size: int) -> Iterator[Span]:
    """A stream of `size` bytes: half of it of precopy, the last page its end."""
    for start in range(0, size, READ):
        kind = Kind.INITIAL if start < size // 2 else Kind.STOP_COPY
        if start + READ < size:
            yield Span(start, READ, kind, 0)
        else:
            yield Span(start, READ - PAGE, kind, 0)
            yield Span(start + READ - PAGE, PAGE, Kind.END, 0)


def copy(size: int, buffer: bytearray, origin: bytearray) -> None:
    for _ in range(size // READ):
        buffer[:] = origin


def make(size: int, buffer: bytearray, content: Content) -> None:
    for span in spans(size):
        content.fill(buffer, [span])


def make_unaligned(size: int, buffer: bytearray, content: Content) -> None:
    for start in range(100, size, READ):
        content.fill(buffer, [Span(start, READ, Kind.INITIAL, 0)])


def read(buffer: memoryview, fd: int) -> None:
    at = 0
    while length := os.preadv(fd, [buffer], at):
        at += length


def check(buffer: memoryview, fd: int, content: Content) -> None:
    checker, at = Checker(content), 0
    while length := os.preadv(fd, [buffer], at):
        checker.feed(buffer[:length])
        at += length
    verdict = checker.finish()
    assert not verdict.problem, verdict.problem


def report(name: str, size: int, times: int, work: Callable[[], None]) -> None:
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    median = sorted(taken)[times // 2]
    print(
        f"{spread.line(name, taken)}, {size / median / 1e9:5.1f} GB/s, "
        f"{median / (size / READ) * 1e6:5.0f} us per MiB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size-mib", type=int, default=1024)
    parser.add_argument("--times", type=int, default=5)
    options = parser.parse_args()
    size, times = options.size_mib * READ, options.times
    buffer, origin = bytearray(READ), bytearray(os.urandom(READ))
    began = time.perf_counter()
    content = Content(1, "vf0")
    print(
        f"{options.size_mib} MiB; a Content is made in {(time.perf_counter() - began) * 1e3:.2f} ms"
    )
    report("copy", size, times, lambda: copy(size, buffer, origin))
    report("make", size, times, lambda: make(size, buffer, content))
    report("make, not at pages", size, times, lambda: make_unaligned(size, buffer, content))
    fd = os.memfd_create("arrived")
    for span in spans(size):
        content.fill(buffer, [span])
        os.pwrite(fd, memoryview(buffer)[: span.length], span.start)
    view = memoryview(buffer)
    report("read from a memfd", size, times, lambda: read(view, fd))
    report("read and check", size, times, lambda: check(view, fd, content))
    os.close(fd)


if __name__ == "__main__":
    main()
