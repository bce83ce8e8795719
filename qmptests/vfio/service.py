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

from qmptests.vfio import abi, calls
from qmptests.vfio.arch import Arch
from qmptests.vfio.caller import CallingProcess
from qmptests.vfio.calllog import CallLog
from qmptests.vfio.calls import Answer, Call
from qmptests.vfio.emulated import Emulated
from qmptests.vfio.files import Duplicate, File, Files
from qmptests.vfio.incoming import Decoder, Incoming, Refused
from qmptests.vfio.iommufd import Iommufd
from qmptests.vfio.listener import Gone, Listener
from qmptests.vfio.memory import Mappings
from qmptests.vfio.script import DAMAGE
from qmptests.vfio.sources import Sources
from qmptests.vfio.spec import Rule
from qmptests.vfio.words import state_word

#: More problems than these are in the log only.
MOST_SAID = 1000
#: When so many calls wait, those whose thread has been killed are forgotten.
_MANY = 64


class Tell(Protocol):
    """Tells everybody who is connected of an event."""

    def __call__(self, event: str, **more: object) -> None: ...


class Pending(NamedTuple):
    """A call that waits for its answer; `emulated` is None for one of the iommufd's own."""

    identity: int
    emulated: Emulated | None
    call: Call
    session: File | None
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
        files: Files,
        log: CallLog,
        tell: Tell,
        *,
        writes: bool,
    ) -> None:
        self._listener = listener
        self._devices = devices
        self._iommufd = iommufd
        self._files = files
        self._decoder = Decoder(arch, devices, files, writes=writes)
        self._log = log
        self._tell = tell
        #: Calls that wait until they are released, in the order in which they came.
        self.held: list[Pending] = []
        #: Answers whose time has not come: (when, number, call, answer).
        self._late: list[tuple[float, int, Pending, Answer]] = []
        self._late_number = 0
        self._mappings = Mappings()
        self._said: set[str] = set()
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
        except Refused as refused:
            self._listener.answer(notification.id, number=refused.number)
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
        """In the log each time, to everybody else once."""
        self._log.note("", "problem", words=problem)
        if problem not in self._said and len(self._said) < MOST_SAID:
            self._said.add(problem)
            self._tell("problem", words=problem)

    def _serve(self, notification: abi.Notification) -> None:
        began_ns = time.time_ns()
        memory = self._caller(notification.id, notification.pid)
        try:
            incoming = self._decoder.decode(notification, memory)
            if isinstance(incoming, Incoming):
                self._begin(Pending(notification.id, *incoming, memory, began_ns))
            elif incoming is None:
                self._listener.let_the_kernel(notification.id)
            elif isinstance(incoming, int):
                self._listener.answer(notification.id, incoming)
            else:
                self._duplicate(notification.id, incoming, memory)
        finally:
            memory.close()

    def _duplicate(self, identity: int, wanted: Duplicate, memory: CallingProcess) -> None:
        """The kernel's own way is the last resort: what is read there is EBADF."""
        try:
            number = self._files.duplicate(self._listener, identity, memory, wanted)
        except OSError:
            self._listener.let_the_kernel(identity)
        else:
            self._listener.answer(identity, number)

    def _caller(self, identity: int, thread: int) -> CallingProcess:
        return CallingProcess(
            self._listener, identity, thread, self._mappings, self._sources, self._files
        )

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
        emulated.follow_state()

    def _hold(self, pending: Pending, emulated: Emulated) -> None:
        if len(self.held) >= _MANY:
            self.held = [other for other in self.held if self._waits(other)]
        self.held.append(pending)
        call = pending.call
        self._log.note(emulated.name, "held", call=call.name, **dict(call.detail))
        self._tell("held", device=emulated.name, call=call.name, detail=dict(call.detail))

    def _waits(self, pending: Pending) -> bool:
        try:
            self._listener.check(pending.identity)
        except Gone:
            return False
        return True

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
        elif pending.session is not None and pending.session is not emulated.session:
            answer = Answer(errno=emulated.old_session_errno(call))
        else:
            before = emulated.device.state
            answer = self._ask(pending, emulated, now)
            if emulated.device.state is not before:
                emulated.follow_state()
                self._tell("state", device=emulated.name, state=state_word(emulated.device.state))
        if delay:
            answer = answer._replace(delay_s=answer.delay_s + delay)
        self._finish(pending, answer)

    def _ask(self, pending: Pending, emulated: Emulated, now: float) -> Answer:
        """Have the device carry it out, and the caller get what the answer has."""
        call, memory = pending.call, pending.memory
        try:
            if call.name in ("config-write", "bar-write"):
                return Answer(value=emulated.write_region(call, memory))
            if call.name == "set-state":
                emulated.dma.finish_look()  # QEMU may be about to end
            if call.name == "read" and not memory.can_write(call.address):
                call = call._replace(argument=0)  # it takes nothing
                answer = emulated.device.handle(call, memory, now)
                return answer if answer.errno else Answer(errno=errno.EFAULT)
            answer = emulated.device.handle(call, memory, now)
            if answer.opens:
                self._open(pending, emulated, answer)
            elif answer.span is not None:
                emulated.deliver(answer.span, memory, call.address)
            elif answer.dma_buf:
                answer = self._share(pending.identity, emulated, answer)
            elif call.name == "reset":
                emulated.was_reset()
        except OSError as error:
            if error.errno != errno.EFAULT:
                raise
            return Answer(errno=errno.EFAULT)
        return answer

    def _open(self, pending: Pending, emulated: Emulated, answer: Answer) -> None:
        """Give the caller the data descriptor that the answer promises."""
        file = emulated.open_data(self._files, answer.opens)
        number = self._files.give(self._listener, pending.identity, pending.memory.thread, file)
        pending.memory.write(answer.opens_at, number.to_bytes(4, "little"))

    def _share(self, identity: int, emulated: Emulated, answer: Answer) -> Answer:
        """Give the caller a descriptor for a part of a BAR: its number is the answer."""
        descriptor = emulated.dma_buf(answer.dma_buf, answer.dma_buf_ranges)
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
            if len(self._late) >= _MANY:
                self._late = [late for late in self._late if self._waits(late[2])]
                heapq.heapify(self._late)
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
