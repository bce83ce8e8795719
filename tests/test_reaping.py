"""What descends from a process is ended at its end, and what may not be killed is named."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from qmptests import reaping

NOBODY = 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")

#: Starts shell scripts, becomes another user if it is to, ends all of them, and tells.
SCRIPT = """
import json, os, subprocess, sys
sys.path[:0] = {path!r}
from qmptests import reaping
from qmptests.hosts.launcher import PR_SET_CHILD_SUBREAPER, prctl
prctl(PR_SET_CHILD_SUBREAPER, 1)
pids = []
for script in {scripts!r}:
    child = subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, text=True)
    pids += map(int, child.stdout.readline().split())
    child.returncode = 0  # it is not this object that waits for it
if {user!r}:
    os.setresuid(*[{user!r}] * 3)
left = reaping.end_descendants()
print(json.dumps(dict(pids=pids, left=left)))
"""


def ended(*scripts: str, user: int = 0) -> dict[str, Any]:
    """What became of shell scripts that print pids: `pids`, and what was `left`."""
    code = SCRIPT.format(path=sys.path, scripts=scripts, user=user)
    argv = [sys.executable, "-c", code]
    done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, timeout=60, check=True)
    return dict(json.loads(done.stdout))


def lives(pid: int) -> bool:
    """Not so a zombie, which only its parent can end."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_children_orphans_and_those_in_other_sessions_end() -> None:
    result = ended(
        "sleep 1000 & echo $$ $!; exec sleep 1000",
        "setsid sleep 1000 & echo $!",
        "trap '' TERM HUP INT; (trap '' TERM; sleep 1000; sleep 1000) & echo $$ $!; wait",
        "sleep 1000 & kill -STOP $!; echo $!",
    )
    assert len(result["pids"]) == 6
    assert (result["left"], [pid for pid in result["pids"] if lives(pid)]) == ([], [])


def test_a_process_whose_first_thread_has_ended_ends_too() -> None:
    """It looks like a zombie in /proc."""
    code = """
import ctypes, os, platform, threading, time
threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
print(os.getpid(), flush=True)
ctypes.CDLL(None).syscall({"x86_64": 60, "aarch64": 93}[platform.machine()], 0)
"""
    result = ended(f"exec {sys.executable} -c '{code.replace(chr(39), chr(34))}'")
    assert (result["left"], lives(*result["pids"])) == ([], False)


@needs_root
def test_what_became_another_users_is_named_and_the_rest_is_ended() -> None:
    drop = f"setpriv --reuid={NOBODY} --clear-groups"
    result = ended(
        "echo $$; exec sleep 1000", f"{drop} sleep 1000 & echo $!; exec sleep 1000", user=NOBODY
    )
    spared, killed = result["pids"]
    try:
        lines = [line for line in result["left"] if f"(pid {spared})" in line]
        assert lines == [f"sleep (pid {spared}) still runs: it is user 0's, and may not be killed"]
        assert len(result["left"]) == 2  # the second script's shell as well
        assert lives(spared)
        assert not lives(killed)
    finally:
        for line in result["left"]:
            os.kill(int(line.partition("(pid ")[2].partition(")")[0]), signal.SIGKILL)


@needs_root
def test_one_that_waits_for_what_can_be_killed_ends_by_itself() -> None:
    """As `sudo` does, which nobody but root may kill, after its command."""
    drop = f"setpriv --reuid={NOBODY} --clear-groups"
    result = ended(f"{drop} sleep 1000 & echo $$ $!; wait", user=NOBODY)
    assert (result["left"], [pid for pid in result["pids"] if lives(pid)]) == ([], [])


def test_a_name_of_a_program_is_shown_without_what_a_terminal_would_obey(tmp_path: Path) -> None:
    program = tmp_path / "\x1b]0;evil\x07\nx"
    program.symlink_to("/bin/sleep")
    with subprocess.Popen([program, "1000"]) as process:
        try:
            while not Path(f"/proc/{process.pid}/cmdline").read_bytes():  # in its exec
                pass
            line = reaping.described(process.pid, {process.pid})
        finally:
            process.kill()
    assert line.isprintable()
    assert r"\x1b]0;evil\x07\nx" in line
