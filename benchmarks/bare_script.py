"""The shortest hand-written migration: raw sockets, no evidence, no checks, hardly a teardown.

The yardstick for `benchmarks/cell.py`; not a way to test anything.
"""

import json
import socket
import subprocess
from pathlib import Path
from typing import Any

from qmptests.builds import Build


class Qemu:
    """A QEMU with its monitor on an inherited socket."""

    def __init__(self, build: Build, machine: str, extra: list[str]) -> None:
        self.socket, theirs = socket.socketpair()
        self.buffer = b""
        monitor = ["-mon", "chardev=q,mode=control"]
        if build.facts.version >= (11, 1, 0):
            monitor = ["-object", "monitor-qmp,id=m,chardev=q"]
        with theirs:
            self.process = subprocess.Popen(
                [
                    *build.argv,
                    *("-nodefaults", "-no-user-config", "-display", "none"),
                    *("-machine", machine, "-accel", "tcg", "-m", "256"),
                    *("-chardev", f"socket,id=q,fd={theirs.fileno()}", *monitor, *extra),
                ],
                env=dict(build.env),
                pass_fds=[theirs.fileno()],
                stderr=subprocess.DEVNULL,
            )

    def receive(self) -> dict[str, Any]:
        while b"\n" not in self.buffer:
            self.buffer += self.socket.recv(65536)
        line, self.buffer = self.buffer.split(b"\n", 1)
        message: dict[str, Any] = json.loads(line)
        return message

    def execute(self, command: str, **arguments: Any) -> None:
        self.socket.sendall(json.dumps({"execute": command, "arguments": arguments}).encode())
        while "return" not in self.receive():
            pass

    def completed(self) -> None:
        while True:
            message = self.receive()
            if message.get("event") == "MIGRATION" and message["data"]["status"] == "completed":
                return


def cell(source: Build, destination: Build, machine: str, path: Path) -> None:
    """Start both, migrate over a UNIX socket at `path`, quit both."""
    arriving = Qemu(destination, machine, ["-incoming", "defer"])
    leaving = Qemu(source, machine, [])
    both = (leaving, arriving)
    for qemu in both:
        qemu.receive()
        qemu.execute("qmp_capabilities")
        events = [{"capability": "events", "state": True}]
        qemu.execute("migrate-set-capabilities", capabilities=events)
    arriving.execute("migrate-incoming", uri=f"unix:{path}")
    leaving.execute("migrate", uri=f"unix:{path}")
    leaving.completed()
    arriving.completed()
    for qemu in both:
        qemu.execute("quit")
    for qemu in both:
        qemu.process.wait()
        qemu.socket.close()
