"""The supervisor: parent of one QEMU, and all the VFIO devices and the iommufd that QEMU has.

`start` has started the command under a seccomp filter. Standard library only, single-threaded. It
serves the calls that the filter notifies, and ends when the command has ended; the command dies
with it.
"""

import os
import resource
import select
import signal
import socket
import time
from typing import Any, NamedTuple

from qmptests import reaping
from qmptests.vfio import alone, arch, asked, spec
from qmptests.vfio.calllog import CallLog
from qmptests.vfio.control import Control
from qmptests.vfio.emulated import Emulated
from qmptests.vfio.files import Files
from qmptests.vfio.iommufd import Iommufd
from qmptests.vfio.listener import Listener
from qmptests.vfio.service import Service
from qmptests.vfio.spec import Spec
from qmptests.vfio.start import Started, watches_writes
from qmptests.vfio.words import state_word

#: Seconds after which what was logged is written even if calls keep coming.
FLUSH_S = 0.05
#: Exit status when the command could not be started.
NOT_STARTED = 127


class Settings(NamedTuple):
    """What the supervisor is told.

    `control`: the descriptor of a connected SOCK_SEQPACKET socket to an owner, `listen` that of a
    listening one for all who want to steer; -1 for none. `log`: the call log's path, or "".
    `unlink`: a file that is removed at the end, or "". `guard`: readable once there is no guard any
    more, or -1. `shown`: what the log has of the command line, if not all of it.
    """

    argv: list[str]
    devices: list[Spec]
    log: str = ""
    control: int = -1
    listen: int = -1
    unlink: str = ""
    guard: int = -1
    shown: list[str] | None = None

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> "Settings":
        """What `json.dumps` of these fields, the devices as `spec.to_json`, was made of."""
        devices = [spec.from_json(device) for device in fields["devices"]]
        return cls(**{**fields, "devices": devices})


class Supervisor:
    """Serves one command until it ends."""

    def __init__(self, settings: Settings, started: Started) -> None:
        iommufd, poll = Iommufd(), select.poll()
        self._receives = "-incoming" in settings.argv
        self.devices = [
            Emulated(number, device, iommufd, poll, memory, receives=self._receives)
            for number, (device, memory) in enumerate(
                zip(settings.devices, started.memories, strict=True)
            )
        ]
        self.control = Control(poll, self._request, started.owner, _socket(settings.listen))
        devices = [spec.to_json(device) for device in settings.devices]
        self.log = CallLog(
            started.log, {"argv": settings.shown or settings.argv, "devices": devices}
        )
        self._writes = any(map(watches_writes, devices))
        self._alone = settings.control < 0
        #: What became of each device, once the command has ended.
        self.reports: list[dict[str, Any]] = []
        self._flushed = time.monotonic()
        listener = Listener(started.listener)
        self._pid, self._pidfd, self._listener_fd = started.pid, started.pidfd, listener.fd
        self._poll, self._guard = poll, settings.guard
        if self._guard >= 0:
            poll.register(self._guard, select.POLLIN)
        poll.register(self._listener_fd, select.POLLIN)
        poll.register(self._pidfd, select.POLLIN)
        given = Files(started.iommufd, started.memories, started.spare, started.data)
        self.service = Service(
            arch.current(),
            listener,
            self.devices,
            iommufd,
            given,
            self.log,
            self._tell,
            writes=self._writes,
        )

    def _tell(self, event: str, **more: Any) -> None:
        """Everybody who is connected; without an owner a person must hear of a problem."""
        self.control.tell(event, **more)
        if self._alone and event == "problem":
            alone.say(more["words"])

    def run(self) -> int:
        """Serve; the command's wait status when it has ended."""
        poll, service, control = self._poll, self.service, self.control
        while True:
            ready = poll.poll(self._timeout_ms())
            for fd, events in ready:
                if fd == self._listener_fd:
                    if events & select.POLLIN:
                        service.serve()
                    else:  # nobody is under the filter any more
                        poll.unregister(fd)
                elif fd in (self._pidfd, self._guard):
                    return self._reap() if fd == self._pidfd else self._give_up()
                elif fd in control:
                    control.ready(fd, events)
                else:
                    service.unmasked(fd)
            if control.abandoned:
                return self._give_up()
            if service.next_late is not None:
                service.reply_late()
            if not ready:
                self._work()
            if self.log.waiting and (not ready or time.monotonic() - self._flushed > FLUSH_S):
                self.log.flush()
                self._flushed = time.monotonic()

    def _work(self) -> None:
        """A piece of what can be done while no call waits."""
        for emulated in self.devices:
            if emulated.prepare():
                self._tell_ready()
                return
        to_check = self._to_check()
        for emulated in to_check:  # first what the guest may overwrite
            if emulated.dma.look():
                return
        for emulated in to_check[:1]:
            emulated.check()

    def _tell_ready(self) -> None:
        """Once: there is memory for all that the devices expect."""
        if self._receives and all(emulated.ready for emulated in self.devices):
            self._receives = False
            self._tell("ready")

    def _to_check(self) -> list[Emulated]:
        """Devices whose data is to be checked, once no other one is still being loaded."""
        to_check = [emulated for emulated in self.devices if emulated.checking]
        return [] if to_check and any(emulated.loading for emulated in self.devices) else to_check

    def _timeout_ms(self) -> float | None:
        """How long nothing but a call or a request is worth waking up for."""
        if self.log.waiting or self._to_check():
            return 0
        for emulated in self.devices:
            if emulated.hurried:
                return 0
        late = self.service.next_late
        return None if late is None else max(0.0, late - time.monotonic()) * 1e3

    def _reap(self) -> int:
        """The command has ended: finish the checks and report."""
        _, status, usage = os.wait4(self._pid, 0)
        for emulated in self.devices:
            while emulated.finish():
                self._hear()
        self.reports = [d.report(self.log.counts.get(d.name, {})) for d in self.devices]
        self.log.close(os.waitstatus_to_exitcode(status))
        self.control.tell(
            "ended",
            status=status,
            cpu_s=round(usage.ru_utime + usage.ru_stime, 6),
            max_rss_kib=usage.ru_maxrss,
            own_cpu_s=round(time.process_time(), 6),
            devices=self.reports,
            lost=self.log.lost,
        )
        self.control.drain(2000)
        return status

    def _hear(self) -> None:
        """Those who steer, in the middle of long work: they may ask whether we live."""
        for fd, events in self._poll.poll(0):
            if fd in self.control:
                self.control.ready(fd, events)

    def _give_up(self) -> int:
        """The owner, or the guard, is gone: so is everything else."""
        for line in reaping.end_descendants():
            alone.say(f"error: {line}")
        self.log.close()
        return signal.SIGKILL

    def _request(self, request: dict[str, Any]) -> dict[str, Any]:
        """What someone at a control socket wants; ValueError has its words."""
        do, device = asked.text(request, "do"), asked.text(request, "device", "")
        if do == "alive":
            return {}
        if do == "release":
            return {"released": self.service.release(device)}
        if do == "status":
            return {"devices": [self._status(emulated) for emulated in self.devices]}
        named = [emulated for emulated in self.devices if emulated.name == device]
        if not named:
            names = ", ".join(emulated.name for emulated in self.devices)
            raise ValueError(f"there is no device '{device}': {names}")
        if do == "rule":
            rule = asked.rule(request)
            if len(named[0].script.rules) >= asked.MOST_RULES:
                raise ValueError(f"there are {asked.MOST_RULES} rules: start anew")
            if rule.on.partition(":")[0] == "write" and not self._writes:
                raise ValueError("a rule for 'write' must be there from the start")
            return {"number": named[0].script.add(rule)}
        if do == "unrule":
            number = asked.number(request, "number")
            if number not in named[0].script.rules:
                raise ValueError(f"{device} has no rule {number}")
            named[0].script.remove(number)
            return {}
        self.service.act(named[0], do, asked.value(request, do))
        return {}

    def _status(self, emulated: Emulated) -> dict[str, Any]:
        held = [p.call for p in self.service.held if p.device == emulated.name]
        return {
            "name": emulated.name,
            "state": state_word(emulated.device.state),
            "held": [{"call": call.name, **dict(call.detail)} for call in held],
            "sent_bytes": sum(size for _, _, size in emulated.sent),
            "reinits": emulated.device.migration.reinits,
        }


def _socket(descriptor: int) -> socket.socket | None:
    return socket.socket(fileno=descriptor) if descriptor >= 0 else None


def serve(told: dict[str, Any], started: Started | OSError) -> int:
    """Serve the command that was started, or tell why it wasn't; our exit status."""
    settings = Settings.from_json(told)
    if isinstance(started, OSError):
        return _fail(settings, started)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # what is mapped is held open
    supervisor = Supervisor(settings, started)
    status = supervisor.run()
    if started.signals is None:
        return 0
    for device in supervisor.reports:
        alone.say(alone.words(device))
    if supervisor.log.lost:
        alone.say(f"warning: the call log {settings.log} {supervisor.log.lost}")
    return alone.status_of(status, supervisor.reports)


def _fail(settings: Settings, error: OSError) -> int:
    from qmptests.vfio import probe  # noqa: PLC0415 - hardly ever needed

    words = probe.explain(error)
    control = Control(select.poll(), lambda request: request, _socket(settings.control), None)
    control.tell("failed", errno=error.errno, words=words)
    control.drain(2000)
    if settings.control < 0:
        alone.say(f"error: {words}")
    return NOT_STARTED
