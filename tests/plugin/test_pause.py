"""`--qemu-pause-on-failure`: both VMs of a failed cell stay until a person has looked at them."""

import json
import re
import socket
from typing import TYPE_CHECKING, Any

from qmptests.matrix.results import Verdict

if TYPE_CHECKING:
    from tests.plugin.conftest import Suite

pytest_plugins = ["pytester"]


def ask(path: str, *commands: str) -> list[Any]:
    """What a QMP socket answers, events left out."""
    with socket.socket(socket.AF_UNIX) as monitor:
        monitor.settimeout(10)
        monitor.connect(path)
        stream = monitor.makefile("rw", buffering=1)
        stream.readline()
        answers = []
        for command in ("qmp_capabilities", *commands):
            stream.write(json.dumps({"execute": command}))
            stream.flush()
            while "return" not in (message := json.loads(stream.readline())):
                pass
            answers.append(message["return"])
        return answers[1:]


def test_a_failed_cell_is_held_with_its_sockets(suite: "Suite") -> None:
    suite.write(
        """
        def test_it(cell, migration):
            assert migration(expected="cancelled").run().as_expected
        """
    )
    session = suite.start("--qemu-pause-on-failure", "--qemu-cell=source=10.0")
    assert session.stdout is not None
    said = ""
    while "\ngo on" not in said:  # the last line of what is said before it waits
        line = session.stdout.readline()
        assert line, said
        said += line
    assert "paused: completed (expected: cancelled)" in said
    paths = re.findall(r"QMP at (\S+)", said)
    states = [ask(path, "query-status")[0]["status"] for path in paths]
    assert states == ["postmigrate", "running"]
    for path in paths:
        ask(path, "quit")
    session.communicate(timeout=30)
    (item,) = suite.results.items
    assert (item.verdict, item.result) == (Verdict.FAILED, "completed")
    suite.nothing_is_left()
