"""The one event loop, and a Ctrl-C that comes while it is being made."""

import subprocess
import sys

#: Interrupts its main thread in the middle of the loop's construction.
INTERRUPTED = """
import asyncio, os, signal
from qmptests import eventloop

initialise = asyncio.SelectorEventLoop.__init__

def interrupted(self, *arguments):
    os.kill(os.getpid(), signal.SIGINT)
    initialise(self, *arguments)

asyncio.SelectorEventLoop.__init__ = interrupted
try:
    eventloop.get()
except KeyboardInterrupt:
    print("interrupted")
"""


def test_an_interrupt_while_the_loop_is_made_leaves_no_half_of_one_behind() -> None:
    ended = subprocess.run(
        ["env", "--default-signal=INT", sys.executable, "-c", INTERRUPTED],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "interrupted\n", "")
