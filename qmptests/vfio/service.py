"""Serving calls: from a notification to its answer, by way of the script and the device."""

import contextlib
import errno
import heapq
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import NamedTuple, Protocol

from qmptests.vfio import abi, calls, descriptors
from qmptests.vfio.arch import Arch
from qmptests.vfio.caller import CallingProcess
from qmptests.vfio.calllog import CallLog
from qmptests.vfio.calls import Answer, Call
from qmptests.vfio.device import REGION_SHIFT
from qmptests.vfio.emulated import BLOCK, CONFIG_OFFSET, Emulated
from qmptests.vfio.iommufd import Iommufd
from qmptests.vfio.listener import Gone, Listener
from qmptests.vfio.memory import Mappings
from qmptests.vfio.script import DAMAGE
from qmptests.vfio.sources import Sources
from qmptests.vfio.spec import Rule
from qmptests.vfio.words import state_word


class Tell(Protocol):
    """Tells everybody who is connected of an event."""

    def __call__(self, event: str, **more: object) -> None: ...


class Pending(NamedTuple):
    """A call that waits for its answer; `emulated` is None for one of the iommufd's own."""

    identity: int
    emulated: Emulated | None
    call: Call
    memory: CallingProcess
    began_ns: int

    @property
    def device(self) -> str:
        """Whose it is, for the log."""
        return self.emulated.name if self.emulated else "iommufd"


class Service:
    """Answers the calls of one QEMU."""

    def __init__(
        self,
        arch: Arch,
        listener: Listener,
        devices: list[Emulated],
        iommufd: Iommufd,
        log: CallLog,
        tell: Tell,
    ) -> None:
        self._arch = arch
        self._listener = listener
        self._devices = devices
        self._iommufd = iommufd
        self._log = log
        self._tell = tell
        #: Calls that wait until they are released, in the order in which they came.
        self.held: list[Pending] = []
        #: Answers whose time has not come: (when, number, call, answer).
        self._late: list[tuple[float, int, Pending, Answer]] = []
        self._late_number = 0
        self._mappings = Mappings()
        self._sources = Sources([e.memory for e in devices], iommufd.dma_bufs)
        #: The device's own doings, by the words that scripts and control sockets have for them.
        self._acts: dict[str, Callable[[Emulated, float], None]] = {
            "reinit": lambda e, value: e.device.migration.reinit(int(value)),
            "grow": lambda e, value: e.device.migration.grow(int(value)),
            "dirty": lambda e, value: e.device.migration.dirty(int(value)),
            "grow-stop-copy": lambda e, value: e.device.migration.grow_stop_copy(int(value)),
            "announce": lambda e, value: e.device.migration.announce(int(value)),
            "error": lambda e, _: e.device.fail(),
            "interrupt": lambda e, value: e.device.interrupts.interrupt(int(value)),
            "err": lambda e, _: e.device.interrupts.notify(abi.Irq.ERR),
            "req": lambda e, _: e.device.interrupts.notify(abi.Irq.REQ),
            "dma": lambda e, value: e.dma.write(int(value)),
            "dma-unreported": lambda e, value: e.dma.write(int(value), tell=False),
            "die": lambda _, __: os.kill(os.getpid(), signal.SIGKILL),
        }

    # --- one call -------------------------------------------------------------------------------

    def serve(self) -> None:
        """Receive one call and answer it, or see to it that it is answered later."""
        try:
            notification = self._listener.receive()
            self._answer_or_fail(notification)
        except Gone:
            pass

    def _answer_or_fail(self, notification: abi.Notification) -> None:
        try:
            self._serve(notification)
        except Gone:
            raise
        except calls.Unknown as error:
            self._problem(notification, str(error), errno.ENOTTY)
        except OSError as error:
            self._problem(notification, str(error), error.errno or errno.EIO)
        except Exception as error:  # noqa: BLE001 - one call must not end all others
            sys.excepthook(type(error), error, error.__traceback__)
            words = f"the emulation is wrong itself: {type(error).__name__}: {error}"
            self._problem(notification, words, errno.EIO)

    def _problem(self, notification: abi.Notification, text: str, number: int) -> None:
        """A call that should not have come: said aloud, and failed.

        Not one of a process that was killed meanwhile: its memory and its threads end one by one.
        """
        self._listener.check(notification.id)
        self._say(f"system call {notification.nr} on descriptor {notification.arg0}: {text}")
        self._listener.answer(notification.id, number=number)

    def _say(self, problem: str) -> None:
        self._log.note("", "problem", words=problem)
        self._tell("problem", words=problem)

    def _serve(self, notification: abi.Notification) -> None:
        began_ns = time.time_ns()
        memory = self._caller(notification.id, notification.pid)
        try:
            decoded = self._decode(notification, memory)
            if decoded is None:
                self._listener.let_the_kernel(notification.id)
            else:
                self._begin(Pending(notification.id, *decoded, memory, began_ns))
        finally:
            memory.close()

    def _caller(self, identity: int, thread: int) -> CallingProcess:
        return CallingProcess(self._listener, identity, thread, self._mappings, self._sources)

    def _decode(
        self, notification: abi.Notification, memory: CallingProcess
    ) -> tuple[Emulated | None, Call] | None:
        """Whose call it is, and what; None for one that is the kernel's."""
        fd = notification.arg0
        number = descriptors.device_of(fd)
        emulated = self._devices[number] if 0 <= number < len(self._devices) else None
        if notification.nr == self._arch.ioctl:
            request = notification.arg1 & 0xFFFFFFFF
            if request == abi.KVM_SET_DEVICE_ATTR:
                call = calls.decode_kvm(notification.arg2, memory)
                return (None, call) if call else None
            if fd == descriptors.IOMMUFD:
                return None, calls.decode("iommufd", request, notification.arg2, memory)
            if emulated is None:
                raise calls.Unknown(f"request {request:#x} for no device of ours")
            role = "data" if descriptors.is_data(fd) else "device"
            call = calls.decode(role, request, notification.arg2, memory)
            return emulated, emulated.device.heard(call)
        if emulated is None:
            return None
        if notification.nr == self._arch.pwrite64:
            return emulated, self._region_write(notification, memory)
        name = "read" if notification.nr == self._arch.read else "write"
        count = min(notification.arg2, BLOCK)
        return emulated, Call(name, notification.arg1, count, detail=(("length", count),))

    @staticmethod
    def _region_write(notification: abi.Notification, memory: CallingProcess) -> Call:
        region = notification.arg3 >> REGION_SHIFT
        at = notification.arg3 & ((1 << REGION_SHIFT) - 1)
        data = memory.read(notification.arg1, notification.arg2)
        detail: calls.Detail = (("offset", at), ("length", len(data)), ("data", data[:16].hex()))
        if region == abi.Region.CONFIG:
            return Call("config-write", at, data, detail=detail)
        return Call("bar-write", at, data, flags=region, detail=(("region", region), *detail))

    # --- its script -----------------------------------------------------------------------------

    def _begin(self, pending: Pending) -> None:
        """See what the scripts have for it, then carry it out; each device has rules of its own."""
        delay = 0.0
        concerned = [pending.emulated] if pending.emulated else self._devices
        for emulated in concerned:
            for rule in self._rules(emulated, pending.call):
                if rule.do == "errno":
                    self._finish(pending, Answer(errno=int(rule.value), delay_s=delay))
                    return
                if rule.do == "eof":
                    self._finish(pending, Answer(delay_s=delay))
                    return
                if rule.do in ("hold", "hang"):
                    self._hold(pending, emulated)
                    return
                if rule.do == "delay":
                    delay += rule.value
                elif rule.do in DAMAGE:
                    emulated.damage = rule.do
                else:
                    self._follow(emulated, rule)
        self._carry_out(pending, delay)

    def _rules(self, emulated: Emulated, call: Call) -> list[Rule]:
        """Those that fire now; everybody is told."""
        if not emulated.script.watches(call.name):
            return []
        device = emulated.device
        since = time.monotonic() - device.bound_at if device.bound_at is not None else 0.0
        fired = emulated.script.match(call, state_word(device.state), device.moved, since)
        for rule in fired:
            self._log.note(emulated.name, "rule", words=str(rule), call=call.name)
            self._tell("fired", device=emulated.name, call=call.name, rule=str(rule))
        return fired

    def _follow(self, emulated: Emulated, rule: Rule) -> None:
        """Have the device do what a rule says, or say why it can't; the call goes on."""
        try:
            self.act(emulated, rule.do, rule.value)
        except ValueError as error:
            self._say(f"device {emulated.name}: the rule '{rule}' can't be followed: {error}")

    def act(self, emulated: Emulated, do: str, value: float) -> None:
        """Have a device do something of its own accord.

        Raises ValueError for an unknown word, and for what it can't do now.
        """
        if do not in self._acts:
            raise ValueError(f"a device can't '{do}': it can {', '.join(sorted(self._acts))}")
        self._acts[do](emulated, value)

    def _hold(self, pending: Pending, emulated: Emulated) -> None:
        self.held.append(pending)
        call = pending.call
        self._log.note(emulated.name, "held", call=call.name, **dict(call.detail))
        self._tell("held", device=emulated.name, call=call.name, detail=dict(call.detail))

    def release(self, device: str) -> int:
        """Carry out what is held of that device ("": of all); how many calls it was."""
        freed = [p for p in self.held if device in ("", p.device)]
        self.held = [p for p in self.held if p not in freed]
        for pending in freed:
            self._log.note(pending.device, "released", call=pending.call.name)
            with contextlib.suppress(Gone):
                memory = self._caller(pending.identity, pending.memory.thread)
                try:
                    self._carry_out(pending._replace(memory=memory), 0.0)
                finally:
                    memory.close()
        return len(freed)

    # --- its answer -----------------------------------------------------------------------------

    def _carry_out(self, pending: Pending, delay: float) -> None:
        now = time.monotonic()
        emulated, call, memory = pending.emulated, pending.call, pending.memory
        if call.errno:
            answer = Answer(errno=call.errno)
        elif emulated is None:
            answer = (
                Answer()
                if call.name.startswith("kvm-")
                else self._iommufd.handle(call, memory, now)
            )
        elif call.name == "config-write":
            emulated.rewrite(CONFIG_OFFSET + call.address, emulated.device.config_write(call))
            answer = Answer(value=len(call.argument))
        elif call.name == "bar-write":
            emulated.rewrite((call.flags << REGION_SHIFT) + call.address, call.argument)
            answer = Answer(value=len(call.argument))
        else:
            before = emulated.device.state
            if call.name == "set-state":
                emulated.dma.finish_look()  # QEMU may be about to end
            answer = emulated.device.handle(call, memory, now)
            if answer.dma_buf:
                answer = self._share(pending.identity, emulated, answer)
            self._provide(pending, emulated, answer)
            if call.name == "reset":
                emulated.was_reset()
            if emulated.device.state is not before:
                self._tell("state", device=emulated.name, state=state_word(emulated.device.state))
        if delay:
            answer = answer._replace(delay_s=answer.delay_s + delay)
        self._finish(pending, answer)

    def _provide(self, pending: Pending, emulated: Emulated, answer: Answer) -> None:
        """What the answer asks for besides a number."""
        if answer.opens:
            number = emulated.open_data(self._listener, pending.identity, answer.opens)
            pending.memory.write(answer.opens_at, number.to_bytes(4, "little"))
        if answer.span is not None:
            emulated.deliver(answer.span, pending.memory, pending.call.address)

    def _share(self, identity: int, emulated: Emulated, answer: Answer) -> Answer:
        """Give the caller a descriptor for a part of a BAR: its number is the answer."""
        descriptor = emulated.dma_buf(answer.dma_buf)
        try:
            number = self._listener.add(identity, descriptor, cloexec=answer.cloexec)
        except OSError as error:
            return Answer(errno=error.errno or errno.EIO)
        finally:
            os.close(descriptor)
        return answer._replace(value=number, detail=(("fd", number),))

    def unmasked(self, descriptor: int) -> None:
        """That event descriptor, by which INTx is unmasked, has been written."""
        for emulated in self._devices:
            if emulated.interrupts.unmask == descriptor and emulated.interrupts.unmasked():
                emulated.device.interrupts.unmask()

    def _finish(self, pending: Pending, answer: Answer) -> None:
        if answer.delay_s > 0:
            self._late_number += 1
            when = time.monotonic() + answer.delay_s
            heapq.heappush(self._late, (when, self._late_number, pending, answer))
        else:
            self._reply(pending, answer)

    def _reply(self, pending: Pending, answer: Answer) -> None:
        if pending.call.name == "write" and not answer.errno:
            self._listener.let_the_kernel(pending.identity)  # what arrives is written to a memfd
        else:
            self._listener.answer(pending.identity, answer.value, answer.errno)
        self._log.call(pending.device, pending.call, answer, pending.began_ns)
        emulated = pending.emulated
        if emulated is not None and pending.call.name == "set-state" and not answer.errno:
            emulated.answered_state()

    @property
    def next_late(self) -> float | None:
        """When the next delayed answer is due, on the monotonic clock."""
        return self._late[0][0] if self._late else None

    def reply_late(self) -> None:
        """Give the delayed answers whose time has come."""
        while self._late and self._late[0][0] <= time.monotonic():
            self._reply(*heapq.heappop(self._late)[2:])
