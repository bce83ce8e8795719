"""Which accelerators really make progress on this host: a program of our own runs under each.

That `/dev/kvm` opens and creates a VM says little: where virtualization is nested or emulated, a
guest may advance thousands of times slower than under TCG, or not at all. What counts is how many
rounds of a loop the guest gets through in a second.
"""

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from qmptests import eventloop
from qmptests.builds.build import Build
from qmptests.builds.storage import builds_directory, recall, write_json
from qmptests.hosts import local
from qmptests.hosts.scratch import scratch

#: Rounds a second from which on an accelerator is of use. TCG on a small machine does hundreds of
#: millions; a guest with a tenth of the least of that would need minutes to boot.
USABLE_RATE = 5e6

#: Seconds that the guest gets from its first sign of life, and QEMU until then.
MEASURE_S = 1.0
START_S = 10.0

DEBUGCON_FD = 3

_FIRST_ROUNDS = 1 << 10
_LAST_ROUNDS = 1 << 27

#: Executes nothing: it lets a test program drive the devices.
_NOT_MEASURED = ("qtest",)

# 16-bit x86 code. Each pass counts down twice as many rounds as the one before it, then writes a
# byte to the debug console (QEMU's `isa-debugcon`), so a host of any speed shows how far it gets.
_CODE = (
    b"\xba\x02\x04"  # mov dx, 0x402
    b"\x66\xbb"
    + _FIRST_ROUNDS.to_bytes(4, "little")  # mov ebx, first
    + b"\xb0\x2e"  # mov al, '.'
    b"\xee"  # out dx, al
    # pass:
    b"\x66\x89\xd9"  # mov ecx, ebx
    # round:
    b"\x66\x49"  # dec ecx
    b"\x75\xfc"  # jnz round
    b"\xee"  # out dx, al
    b"\x66\x01\xdb"  # add ebx, ebx
    b"\x66\x81\xfb"
    + _LAST_ROUNDS.to_bytes(4, "little")  # cmp ebx, last
    + b"\x75\xec"  # jne pass
    b"\xfa"  # cli
    b"\xf4"  # end: hlt
    b"\xeb\xfd"  # jmp end
)

_SIZE = 0x10000
_RESET_VECTOR = 0xFFF0


class Accelerator(msgspec.Struct, frozen=True):
    """How one accelerator of a build does on this host."""

    name: str
    usable: bool
    rounds_per_s: float
    """Rounds of the measuring loop (two instructions) a second."""
    reason: str
    """Why it is not usable; empty if it is."""


class _Measured(msgspec.Struct, frozen=True):
    boot: str
    accelerators: list[Accelerator]


def firmware() -> bytes:
    """The measuring program as a 64 KiB firmware image, which the CPU enters 16 bytes before its
    end."""
    image = bytearray(b"\xf4" * _SIZE)
    image[: len(_CODE)] = _CODE
    jump = (-(_RESET_VECTOR + 3)) & 0xFFFF
    image[_RESET_VECTOR : _RESET_VECTOR + 3] = b"\xe9" + jump.to_bytes(2, "little")
    return bytes(image)


def rounds_after(passes: int) -> int:
    """All rounds of the first `passes` passes."""
    return _FIRST_ROUNDS * ((1 << passes) - 1)


def measure(
    build: Build, *, progress: Callable[[str], None], refresh: bool = False
) -> list[Accelerator]:
    """How each of the build's accelerators does here, best first.

    Remembered until the host boots again. Measures again if `refresh`. Empty for a build that
    emulates another architecture than x86.
    """
    if build.facts.target not in ("x86_64", "i386"):
        return []
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    note = builds_directory() / "accelerators" / f"{build.digest}.json"
    known = recall(note, _Measured)
    if known is not None and known.boot == boot and not refresh:
        return known.accelerators
    found = []
    for name in build.facts.accelerators:
        if name not in _NOT_MEASURED:
            progress(f"{build.name}: running a guest under {name}")
            found.append(eventloop.run(_measure(build, name)))
    found.sort(key=lambda item: (not item.usable, -item.rounds_per_s))
    write_json(note, _Measured(boot, found))
    return found


async def _measure(build: Build, name: str) -> Accelerator:
    async with scratch() as folder:
        image = folder / "firmware"
        image.write_bytes(firmware())
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                process = await local().spawn(
                    f"{build.name} under {name}",
                    [*build.argv, *_arguments(name, image)],
                    env=build.env,
                    fds={DEBUGCON_FD: theirs.fileno()},
                    output=folder / "stderr",
                )
            try:
                times = await _passes(ours)
                return judge(name, times, process.last_lines(1))
            finally:
                await process.kill()


def _arguments(accelerator: str, image: Path) -> Sequence[str]:
    return (
        *("-accel", accelerator, "-machine", "pc", "-nodefaults", "-no-user-config"),
        *("-display", "none", "-m", "16", "-bios", str(image)),
        *("-chardev", f"socket,id=debugcon,fd={DEBUGCON_FD}"),
        *("-device", "isa-debugcon,iobase=0x402,chardev=debugcon"),
    )


async def _passes(sock: socket.socket) -> list[float]:
    """When (monotonic, seconds) each byte came, until the last, end of file, or the deadline."""
    loop = asyncio.get_running_loop()
    sock.setblocking(False)
    last = (_LAST_ROUNDS // _FIRST_ROUNDS).bit_length()
    times: list[float] = []
    deadline = time.monotonic() + START_S
    with contextlib.suppress(TimeoutError, ConnectionError):
        while len(times) < last:
            data = await asyncio.wait_for(
                loop.sock_recv(sock, 64), max(0.0, deadline - time.monotonic())
            )
            if not data:
                break
            now = time.monotonic()
            if not times:
                deadline = now + MEASURE_S
            times += [now] * len(data)
    return times


def judge(name: str, times: Sequence[float], last_lines: Sequence[str]) -> Accelerator:
    """What the times (seconds) of the guest's bytes mean; `last_lines` is what QEMU said."""
    if not times:
        reason = "; ".join(last_lines) or "the guest gave no sign of life"
        return Accelerator(name, False, 0.0, reason)
    spent = times[-1] - times[0]
    rate = rounds_after(len(times) - 1) / spent if spent > 0 else 0.0
    if rate >= USABLE_RATE:
        return Accelerator(name, True, rate, "")
    reason = (
        f"it runs, but at {rate:,.0f} rounds of a loop a second (usable from {USABLE_RATE:,.0f})"
    )
    return Accelerator(name, False, rate, reason)
