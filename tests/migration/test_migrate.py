"""Real migrations between real QEMUs."""

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from qmptests import builds
from qmptests.errors import InputError
from qmptests.fixtures.migrating import Migration
from qmptests.migration import Kill, Observer, Phase, Run
from qmptests.outcome import Outcome, Result, folder

Migrate = Callable[..., Migration]

PAUSED = {"pause-before-switchover": True}


@pytest.mark.smoke
def test_a_running_guest_arrives_with_its_memory(migration: Migrate) -> None:
    outcome = migration().run()
    assert outcome.completed
    record = outcome.record
    assert record.source is not None
    assert record.memory is not None
    assert (record.source.runstate, outcome.destination.record.runstate) == (
        "postmigrate",
        "running",
    )
    assert record.memory.pages == 4096
    left, arrived = record.source.guest.counter, outcome.destination.record.guest.counter
    assert left is not None
    assert arrived is not None
    assert left < arrived


@pytest.mark.smoke
def test_firmware_alone_migrates(migration: Migrate) -> None:
    outcome = migration(vm="none").run()
    assert outcome.completed
    assert outcome.record.memory is None


@pytest.mark.parametrize("channels", [False, True], ids=["uri", "channels"])
@pytest.mark.parametrize("transport", ["unix", "tcp", "fd"])
def test_every_transport_in_both_address_forms(
    migration: Migrate, transport: str, channels: bool
) -> None:
    assert migration(transport=transport, channels=channels).run().completed


def test_multifd(migration: Migrate) -> None:
    parameters = {"multifd-channels": 4}
    outcome = migration(capabilities=["multifd"], parameters=parameters, transport="tcp").run()
    assert outcome.completed
    assert outcome.source.record.migration["ram"]["multifd-bytes"] > 16 << 20


def test_pause_before_switchover_holds_the_vm_until_continued(migration: Migrate) -> None:
    class Look(Observer):
        states: tuple[str, str] = ("", "")

        async def reached(self, phase: Phase, run: Run) -> None:
            if phase is Phase.PRE_SWITCHOVER:
                self.states = (await run.source.runstate(), await run.destination.runstate())

    look = Look()
    assert migration(capabilities=PAUSED).run(look).completed
    assert look.states == ("finish-migrate", "inmigrate")


@pytest.mark.parametrize("cancel_at", ["active", "pre-switchover"])
def test_a_cancelled_migration_leaves_the_guest_running_and_can_be_tried_again(
    migration: Migrate, cancel_at: str
) -> None:
    capabilities = PAUSED if cancel_at == "pre-switchover" else {}
    outcome = migration(capabilities=capabilities, cancel_at=cancel_at, retries=1).run()
    assert outcome.completed
    assert [a.status for a in outcome.record.attempts] == ["cancelled", "completed"]
    assert [d.name for d in outcome.record.destinations] == ["destination", "destination-2"]


def test_a_cancel_without_a_retry_is_a_result_of_its_own(migration: Migrate) -> None:
    outcome = migration(cancel_at="active", expected=Result.CANCELLED).run()
    assert outcome.record.result is Result.CANCELLED
    assert outcome.as_expected
    assert outcome.source.record.runstate == "running"


def test_another_machine_type_at_the_destination_is_refused_in_qemus_words(
    migration: Migrate,
) -> None:
    outcome = migration(machine="pc-q35-10.0", destination_machine="pc-q35-9.2").run()
    assert outcome.record.result is Result.FAILED_DESTINATION_EXITED
    assert "Machine type received is 'pc-q35-10.0' and local is 'pc-q35-9.2'" in (
        outcome.record.error
    )
    assert outcome.source.record.runstate == "running"


def test_a_destination_that_is_not_to_exit_is_there_after_a_failure(migration: Migrate) -> None:
    plan = {"machine": "pc-q35-10.0", "destination_machine": "pc-q35-9.2", "exit_on_error": False}
    outcome = migration(vm="none", **plan).run()
    assert outcome.record.result is Result.FAILED_DESTINATION_ALIVE
    assert outcome.record.plan.exit_on_error is False
    assert outcome.destination.record.migration["status"] == "failed"


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        (("-nonsense",), "-nonsense: invalid option"),
        (("-device", "no-such-device"), "'no-such-device' is not a valid device model name"),
        (("-machine", "pc-q35-99.9"), "unsupported machine type"),
    ],
)
def test_a_qemu_that_does_not_start_says_why(
    migration: Migrate, extra: tuple[str, ...], words: str
) -> None:
    outcome = migration(vm="none", destination_args=extra).run()
    assert outcome.record.result is Result.START_FAILED
    assert "destination exited with status 1 while waiting for the QMP greeting" in (
        outcome.record.error
    )
    assert words in "".join([outcome.record.error, *outcome.record.error_tail])
    numbers = [path for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
    left = [path for path in numbers if path.readlink().is_relative_to(outcome.folder.parent)]
    assert not left


@pytest.mark.parametrize(
    ("plan", "error"),
    [
        ({"capabilities": ["teleport"]}, "has no migration capability 'teleport'"),
        ({"capabilities": ["multifdd"]}, "did you mean 'multifd'"),
        ({"parameters": {"max-bandwith": 1}}, "did you mean 'max-bandwidth'"),
        ({"machine": "pc-q35-77.7"}, "pc-q35-77.7"),
        ({"transport": "pigeon"}, "unknown transport 'pigeon'"),
        ({"transport": "fd", "capabilities": ["multifd"]}, "multifd needs further channels"),
        ({"cancel_at": "pre-switchover"}, "needs capability pause-before-switchover"),
        ({"timeout_s": 0.0}, "a deadline of 0 s is impossible"),
        ({"accelerator": "warp"}, "warp"),
    ],
)
def test_what_can_not_be_is_refused_before_anything_starts(
    migration: Migrate, plan: dict[str, object], error: str
) -> None:
    wanted = migration(**plan)
    with pytest.raises(InputError, match=error):
        wanted.run()
    assert not list(wanted.output.parent.glob("migration*"))


def test_a_value_that_qemu_refuses_is_quoted(migration: Migrate) -> None:
    outcome = migration(vm="none", parameters={"downtime-limit": "soon"}).run()
    assert outcome.record.result is Result.QMP_ERROR
    assert outcome.record.last_phase == Phase.STARTED
    assert outcome.record.error == (
        "source: migrate-set-parameters: Parameter 'downtime-limit' expects uint64"
    )


@pytest.mark.parametrize("side", ["source", "destination"])
@pytest.mark.parametrize("phase", [Phase.LISTENING, Phase.ACTIVE, Phase.PRE_SWITCHOVER])
def test_a_side_that_dies_is_named_and_the_evidence_kept(
    migration: Migrate, side: str, phase: Phase
) -> None:
    outcome = migration(capabilities=PAUSED).run(Kill(side, phase))
    assert not outcome.completed
    exits = {s.name: s.exit for s in (outcome.source.record, outcome.destination.record)}
    killed = exits[side]
    assert killed is not None
    assert killed.text == "was killed by SIGKILL"
    if side == "source":
        assert outcome.record.result is Result.SOURCE_DIED
        assert "source was killed by SIGKILL" in outcome.record.error
    else:
        assert outcome.record.result in {
            Result.DESTINATION_DIED,
            Result.FAILED_DESTINATION_EXITED,
            Result.QMP_ERROR,
        }
    for name in ("source.qmp.jsonl", "destination.qmp.jsonl", "reproduce.sh"):
        assert (outcome.folder / name).stat().st_size > 0


def test_a_migration_that_never_ends_has_a_deadline(migration: Migrate) -> None:
    outcome = migration(parameters={"max-bandwidth": 4096}, timeout_s=1.0).run()
    assert outcome.record.result is Result.TIMED_OUT
    assert outcome.record.error.endswith("waiting for migration status completed from source")
    assert outcome.record.last_phase == Phase.ACTIVE


def test_memory_that_is_not_what_the_guest_wrote_is_noticed(migration: Migrate) -> None:
    """The check must be able to fail: the destination's memory is changed before it looks."""

    class Corrupt(Observer):
        async def reached(self, phase: Phase, run: Run) -> None:
            if phase is Phase.ARRIVED:
                # The debugger's way into guest memory; 24 MiB is not in reach of the guest's
                # next pass over its first pages.
                pid = run.destination.process.pid
                _flip_a_byte_of_guest_memory(pid)

    outcome = migration().run(Corrupt())
    assert outcome.record.result is Result.MEMORY_WRONG
    assert outcome.record.memory is not None
    assert outcome.record.memory.bad_pages == 1
    assert (outcome.folder / "destination.memory.bin").stat().st_size == 16 << 20


def _flip_a_byte_of_guest_memory(pid: int) -> None:
    """Flip one byte in the middle of a page; the pattern fills the guest's 16 MiB from 1 MiB on."""
    size = 256 << 20
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        span, access, *_ = line.split()
        start, end = (int(x, 16) for x in span.split("-"))
        if access.startswith("rw") and end - start >= size:
            address = start + (8 << 20) + 2048
            with Path(f"/proc/{pid}/mem").open("r+b", buffering=0) as memory:
                memory.seek(address)
                byte = memory.read(1)
                memory.seek(address)
                memory.write(bytes([byte[0] ^ 1]))
            return
    pytest.fail("no mapping of the guest's size")


def test_everything_that_happened_is_kept(migration: Migrate) -> None:
    outcome = migration(capabilities=["return-path"]).run()
    assert outcome.completed
    names = {path.name for path in outcome.folder.iterdir()}
    for side in ("source", "destination"):
        assert {f"{side}.{kind}" for kind in ("qmp.jsonl", "stderr.log", "console.log")} <= names
        assert f"{side}.trace.log" in names
    assert {"outcome.json", "reproduce.sh"} <= names
    assert folder.load(outcome.folder) == outcome.record
    assert outcome.record.attempts[0].times.downtime_ms is not None
    assert [p.name for p in outcome.record.phases][-3:] == ["arrived", "checked", "stopped"]
    assert not list(outcome.folder.parent.glob("*.partial"))


def test_trace_events_of_both_sides_are_counted(migration: Migrate) -> None:
    outcome = migration().run()
    states = [e.args["new_state"] for e in outcome.source.trace.events("migrate_set_state")]
    assert states[:2] == ["setup", "active"]
    assert states[-1] == "completed"
    assert outcome.destination.trace.never(
        "loadvm_approve_switchover", witness="loadvm_process_command"
    )


def test_trace_events_can_be_switched_on_and_awaited_while_it_runs(migration: Migrate) -> None:
    class Watch(Observer):
        seen = 0

        async def reached(self, phase: Phase, run: Run) -> None:
            if phase is Phase.READY:
                assert await run.source.set_trace("savevm_section_start", on=True)
            if phase is Phase.ENDED:
                event = await run.source.trace.wait_for("savevm_section_start", timeout=10)
                self.seen = event.line

    watch = Watch()
    outcome = migration(vm="none").run(watch)
    assert outcome.completed
    assert watch.seen > 0
    assert "savevm_section_start" in outcome.source.record.trace.enabled
    assert outcome.source.trace.count("savevm_section_start") > 0


def test_a_build_knows_only_events_that_can_be_switched_on(migration: Migrate) -> None:
    """One that is compiled out would never fire: to count it would be a zero without a reason."""

    class Ask(Observer):
        states: tuple[dict[str, str], ...] = ()

        async def reached(self, phase: Phase, run: Run) -> None:
            if phase is Phase.READY:
                answers = await run.source.execute("trace-event-get-state", {"name": "*"})
                self.states = tuple(answers)

    ask = Ask()
    known = migration(vm="none").run(ask).source.record.build
    unavailable = {s["name"] for s in ask.states if s["state"] == "unavailable"}
    assert unavailable
    facts = builds.resolve(known.spec).facts
    assert facts.trace_events == {s["name"] for s in ask.states} - unavailable


def test_an_unknown_trace_event_is_refused(migration: Migrate) -> None:
    with pytest.raises(InputError, match=r"no trace event of \S+ or \S+ matches 'nonsense'"):
        migration(trace=("nonsense",)).run()


def test_flooding_trace_events_mark_the_times_as_perturbed(migration: Migrate) -> None:
    calm = migration(vm="none").run()
    flooded = migration(vm="none", trace=("ram_load_loop", "migrate_set_state")).run()
    assert not calm.record.perturbed
    assert flooded.record.perturbed


def test_the_reproduction_script_reproduces(migration: Migrate, tmp_path: Path) -> None:
    outcome = migration(transport="tcp").run()
    assert outcome.completed
    result = _reproduce(outcome, tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "source MIGRATION {'status': 'completed'}" in result.stdout
    assert "destination: {'status': 'running', 'running': True}" in result.stdout


def test_the_reproduction_of_a_failure_fails_alike(migration: Migrate, tmp_path: Path) -> None:
    outcome = migration(machine="pc-q35-10.0", destination_machine="pc-q35-9.2").run()
    result = _reproduce(outcome, tmp_path)
    assert result.returncode == 1
    logs = "".join(path.read_text() for path in tmp_path.rglob("destination.log"))
    assert "Machine type received is" in logs


def test_a_reproduction_that_is_killed_leaves_no_qemu(migration: Migrate, tmp_path: Path) -> None:
    outcome = migration(vm="none", parameters={"max-bandwidth": 65536}, timeout_s=0.5).run()
    assert outcome.record.result is Result.TIMED_OUT
    with subprocess.Popen(
        [outcome.folder / "reproduce.sh"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    ) as script:
        assert script.stdout is not None
        assert any("'status': 'active'" in line for line in script.stdout)
        assert len(_qemus_in(tmp_path)) == 2
        script.kill()
    deadline = time.monotonic() + 10
    while (left := _qemus_in(tmp_path)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not left


def _qemus_in(place: Path) -> list[int]:
    """Those that a script started which has its temporary directory in `place`."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"{place}/reproduce-".encode() in (process / "cmdline").read_bytes():
                found.append(int(process.name))
    return found


def _reproduce(outcome: Outcome, scratch: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [outcome.folder / "reproduce.sh"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "TMPDIR": str(scratch)},
    )


def test_the_transcript_is_what_was_said(migration: Migrate) -> None:
    outcome = migration(vm="none").run()
    lines = (outcome.folder / "source.qmp.jsonl").read_text().splitlines()
    messages = [json.loads(line) for line in lines]
    sent = [m["sent"]["execute"] for m in messages if "sent" in m]
    assert sent[:3] == ["qmp_capabilities", "migrate-set-capabilities", "migrate"]
    assert sent[-1] == "quit"
