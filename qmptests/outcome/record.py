"""The outcome: everything observed of one migration, as data. Written once, never edited.

Field by field in docs/reference/outcome.md. Times are seconds since the epoch unless the name says
otherwise (`_ms`, `_s`); sizes are bytes. `SCHEMA` is raised when a field changes its meaning or
goes; a field that is added does not raise it.
"""

from enum import StrEnum
from typing import Any

import msgspec

from qmptests.trace import Volume

SCHEMA = 1
"""The number of the schema that is written, and the only one that is read."""


class Result(StrEnum):
    """What became of a migration: one word, decided in one place (`migration.verdict`)."""

    #: Source completed, destination running, source not running, guest and its memory right.
    COMPLETED = "completed"
    #: `migrate_cancel` was asked for and QEMU obeyed.
    CANCELLED = "cancelled"
    #: QEMU said failed; the destination's process lives.
    FAILED_DESTINATION_ALIVE = "failed-destination-alive"
    #: QEMU said failed, and the destination exited.
    FAILED_DESTINATION_EXITED = "failed-destination-exited"
    #: A QMP command was refused before the migration started.
    QMP_ERROR = "qmp-error"
    #: A VM did not start.
    START_FAILED = "start-failed"
    #: A process ended that should have lived.
    SOURCE_DIED = "source-died"
    DESTINATION_DIED = "destination-died"
    #: A sanitizer reported an error, on whichever side and at whatever time.
    SANITIZER_REPORT = "sanitizer-report"
    #: A process died of a fault of its own (SIGSEGV, SIGABRT, ...), teardown included.
    CRASHED = "crashed"
    #: The deadline passed.
    TIMED_OUT = "timed-out"
    #: Whatever QEMU says, both guests run. It says completed, but none runs, or memory is wrong.
    BOTH_RUNNING = "both-running"
    NOT_RUNNING = "not-running"
    MEMORY_WRONG = "memory-wrong"
    GUEST_REBOOTED = "guest-rebooted"
    #: Completed, says QEMU, but a guest that can be checked was not seen to run, or its memory.
    GUEST_NOT_CHECKED = "guest-not-checked"
    #: Completed, says QEMU, but an emulated device did not get the data that its like had sent.
    DEVICE_DATA_WRONG = "device-data-wrong"
    #: A rule of a device's script met no call that it was for: what was to be seen was not there.
    RULE_NEVER_FIRED = "rule-never-fired"
    #: The emulation ended before QEMU did, or QEMU asked what no emulated device knows.
    EMULATION_FAILED = "emulation-failed"
    #: The process that ran the migration died; written by the one that noticed.
    LOST = "lost"
    #: Not the thing under test: the machine, or Ctrl-C.
    ENVIRONMENT = "environment"
    INTERRUPTED = "interrupted"


NO_FAULT_OF_QEMU = frozenset({Result.ENVIRONMENT, Result.EMULATION_FAILED})
"""Results that say nothing about QEMU: what it ran on, or with, failed."""


class BuildRecord(msgspec.Struct, kw_only=True):
    """Which QEMU it was."""

    name: str
    spec: str
    version: str
    version_text: str
    digest: str
    origin: dict[str, str] = {}


class HostRecord(msgspec.Struct, kw_only=True):
    """Where it ran."""

    hostname: str
    kernel: str
    cpu: str
    cpus: int
    memory_bytes: int
    python: str
    load_1min: float


class PlanRecord(msgspec.Struct, kw_only=True):
    """What was to be done."""

    machine: str
    accelerator: str
    definition: dict[str, Any]
    capabilities: dict[str, bool]
    parameters: dict[str, Any]
    transport: str
    address_form: str
    trace: list[str]
    expected: str
    timeout_s: float
    devices: list[dict[str, Any]] = []
    destination_machine: str = ""
    destination_definition: dict[str, Any] | None = None
    destination_devices: list[dict[str, Any]] | None = None
    source_args: list[str] = []
    destination_args: list[str] = []
    cancel_at: str = ""
    retries: int = 0
    exit_on_error: bool = True
    wrapper: list[str] = []
    pause_on_failure: bool = False


class ExitRecord(msgspec.Struct, kw_only=True):
    """How a QEMU process ended: `returncode` as in subprocess (negative: a signal).

    `core`: what became of its core dump, in words; "" if it did not crash.
    """

    returncode: int
    text: str
    cpu_s: float
    max_rss_kib: int
    asked: bool
    core_dumped: bool = False
    core: str = ""


class EventRecord(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A QMP event, or a run of `count` of them with the first and last time and the last data."""

    name: str
    data: dict[str, Any]
    first: float
    last: float
    count: int = 1


class TraceRecord(msgspec.Struct, kw_only=True):
    """What a side's trace log holds.

    `enabled`: the events that were switched on, by name. `unmatched`: patterns that mean no event
    of this build.
    """

    enabled: list[str]
    unmatched: list[str]
    volume: Volume = msgspec.field(default_factory=Volume)
    perturbing: bool = False


class GuestRecord(msgspec.Struct, kw_only=True):
    """What the guest's console said on one side. `counter` is the last value seen, or None."""

    ready: bool = False
    counter: int | None = None
    reports: int = 0
    reboots: int = 0


class MemoryRecord(msgspec.Struct, kw_only=True):
    """The check of guest memory at the destination, the VM being stopped for `stopped_ms`."""

    right: bool
    pages: int
    bad_pages: int
    generation: int
    edge: int | None
    stopped_ms: float
    problems: list[str] = []


class ChunkRecord(msgspec.Struct, kw_only=True):
    """A part of a device's data: `kind` is initial, dirty, stop-copy or end.

    Of more than 100 parts those in the middle are one for each kind, with the last generation.
    """

    kind: str
    generation: int
    bytes: int


class ArrivalRecord(msgspec.Struct, kw_only=True):
    """The check of the data that an emulated device was given; `problem` is "" if all is right."""

    received_bytes: int
    problem: str = ""
    chunks: list[ChunkRecord] = []


class DmaRecord(msgspec.Struct, kw_only=True):
    """Pages of 4 KiB that a device wrote to the guest's memory, or found there when its VM ran on.

    `start`: address of the first page of its window. `bursts`: number of the last burst. `runs`:
    for each page in order the burst that wrote it last, 0 for none; "0*3" is that three times.
    """

    start: int
    pages: int
    bursts: int
    runs: str
    problems: list[str] = []


class DeviceRecord(msgspec.Struct, kw_only=True):
    """An emulated VFIO device on one side, when its QEMU had ended.

    `calls`: how often each was made. `sent`: what was read from it. `arrival`: None if nothing
    arrived. `dma_written`: None if it wrote nothing; `dma_found`: None if it did not look. `fired`,
    `unfired`: its script's rules, in words.
    """

    name: str
    profile: str
    seed: int
    state: str
    calls: dict[str, int] = {}
    sent: list[ChunkRecord] = []
    reinits: int = 0
    arrival: ArrivalRecord | None = None
    dma_written: DmaRecord | None = None
    dma_found: DmaRecord | None = None
    fired: list[str] = []
    unfired: list[str] = []


class SideRecord(msgspec.Struct, kw_only=True):
    """One QEMU process: source or destination.

    `devices`: its emulated VFIO devices. `emulation_problems`: what went wrong with the emulation
    itself, in words. `supervisor_cpu_s`: what it took.
    """

    name: str
    build: BuildRecord
    argv: list[str]
    environment: dict[str, str]
    runstate: str = ""
    migration: dict[str, Any] = {}
    events: list[EventRecord] = []
    exit: ExitRecord | None = None
    trace: TraceRecord
    guest: GuestRecord
    stderr_tail: list[str] = []
    devices: list[DeviceRecord] = []
    emulation_problems: list[str] = []
    supervisor_cpu_s: float = 0.0


class TimesRecord(msgspec.Struct, kw_only=True):
    """Milliseconds as QEMU reports them (query-migrate on the source); None if it did not."""

    total_ms: int | None = None
    downtime_ms: int | None = None
    setup_ms: int | None = None
    expected_downtime_ms: int | None = None


class AttemptRecord(msgspec.Struct, kw_only=True):
    """One `migrate` command. `status` and `error` are QEMU's words; `destination` indexes
    `OutcomeRecord.destinations`."""

    destination: int
    started: float
    ended: float
    status: str
    error: str = ""
    times: TimesRecord
    commands: list[dict[str, Any]] = []


class PhaseRecord(msgspec.Struct, kw_only=True):
    """When our own run reached a phase, in milliseconds after its start (monotonic clock)."""

    name: str
    at_ms: float


class OutcomeRecord(msgspec.Struct, kw_only=True):
    """All of it. `cell`: the id of the matrix cell that it is, "" if it is none. `last_phase`: the
    last that was reached before the teardown, "" if none.

    `source_ran_on`: after anything but a completed migration, whether the guest was seen to go on
    at the source. `same_binary`: the two builds have two names, but one binary.
    """

    schema: int = SCHEMA
    qmptests: str
    name: str
    cell: str = ""
    created: float
    host: HostRecord
    plan: PlanRecord
    source: SideRecord | None = None
    destinations: list[SideRecord] = []
    attempts: list[AttemptRecord] = []
    memory: MemoryRecord | None = None
    source_ran_on: bool | None = None
    phases: list[PhaseRecord] = []
    result: Result
    error: str = ""
    last_phase: str = ""
    same_binary: bool = False
    error_tail: list[str] = []
    perturbed: bool = False
    evidence_problems: list[str] = []
    evidence: dict[str, str] = {}
