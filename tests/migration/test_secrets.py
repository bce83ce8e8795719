"""No file of the evidence has a secret, and what it takes to repeat a migration is said."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from qmptests.builds import Build
from qmptests.fixtures.migrating import Migration
from qmptests.matrix import store
from qmptests.migration import Observer, Phase, Run, collect, lost
from qmptests.outcome import Outcome, Result, folder
from qmptests.redaction import Redaction
from qmptests.vm import devices, load

Migrate = Callable[..., Migration]

ARGUMENT, IN_JSON, VARIABLE, LATER = "0neS3cret", 'tw"o,S3cret', "thr33Secret", "f0urSecret"
SECRETS = (ARGUMENT, IN_JSON, VARIABLE, LATER)
ARGS = (
    *("-object", f"secret,id=s1,data={ARGUMENT}"),
    *("-object", '{"qom-type": "secret", "id": "s2", "data": "tw\\"o,S3cret"}'),
)
WRAPPER = ("env", f"DB_PASSWORD={VARIABLE}")


class Adds(Observer):
    """An object with a secret, and a command that QEMU refuses with the words it was given."""

    async def reached(self, phase: Phase, run: Run) -> None:
        if phase is Phase.STARTED:
            new = {"qom-type": "secret", "id": "s3", "data": LATER}
            await run.execute(run.source, "object-add", new)


def check_kept(outcome: Outcome) -> None:
    files = [path for path in outcome.folder.rglob("*") if path.is_file()]
    assert len(files) > 7
    for path in files:
        data = path.read_bytes()
        for secret in SECRETS:
            assert secret.encode() not in data, (path.name, secret)
            assert secret.replace('"', '\\"').encode() not in data, (path.name, secret)


def reproduce(
    outcome: Outcome, scratch: Path, **secrets: str
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [outcome.folder / "reproduce.sh"],
        env={**os.environ, "TMPDIR": str(scratch), **secrets},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_nothing_that_is_kept_of_a_migration_has_one(migration: Migrate, tmp_path: Path) -> None:
    wanted = migration(vm="none", source_args=ARGS, destination_args=ARGS, wrapper=WRAPPER)
    outcome = wanted.run(Adds())
    assert outcome.completed, outcome
    check_kept(outcome)
    names = [f"QMPTESTS_SECRET_{number}" for number in (1, 2, 3, 4)]
    text = (outcome.folder / "outcome.json").read_text()
    assert all(f"@{name}@" in text for name in names)
    assert f"data=@{names[0]}@" in " ".join(outcome.source.record.argv)
    assert "@QMPTESTS" in (outcome.folder / "source.qmp.jsonl").read_text()
    refused = reproduce(outcome, tmp_path)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.count("\n") == 1
    lacking = refused.stderr.partition("set ")[2].split()
    by_name = dict(zip(names, (ARGUMENT, 'tw\\"o,S3cret', VARIABLE, LATER), strict=True))
    by_name = {name: by_name[name] for name in (word.strip(",") for word in lacking)}
    assert len(by_name) == 3
    repeated = reproduce(outcome, tmp_path, **by_name)
    assert repeated.returncode == 0, repeated.stdout + repeated.stderr
    assert ARGUMENT not in repeated.stdout


def test_nor_has_one_that_qemu_refuses_and_repeats(migration: Migrate) -> None:
    profile = (devices.load("idle"),)
    outcome = migration(
        vm="none",
        devices=profile,
        destination_args=("-object", f"secret,id=s,data={ARGUMENT},no-such={VARIABLE}"),
        wrapper=("sh", "-c", f'echo token={VARIABLE} >&2; exec "$@"', "sh"),
    ).run()
    assert outcome.record.result is Result.START_FAILED
    assert VARIABLE not in outcome.record.error
    check_kept(outcome)
    logs = (outcome.folder / "destination.stderr.log").read_text()
    assert "token=@QMPTESTS_SECRET_" in logs
    assert "@QMPTESTS_SECRET_" in (outcome.folder / "destination.vfio.jsonl").read_text()


def test_nor_has_one_whose_process_died(migration: Migrate, tmp_path: Path) -> None:
    plan = migration(vm="none", source_args=ARGS, wrapper=WRAPPER).plan
    partial = folder.begin(tmp_path / "out")
    (partial / "source.stderr.log").write_text(f"-object secret,id=s1,data={ARGUMENT}: no\n")
    (partial / "source.qmp.jsonl").write_text('{"x": "tw\\"o,S3cret"}\n')
    final = lost.write(plan, tmp_path / "out")
    kept = "".join(path.read_text() for path in final.iterdir())
    assert not any(secret in kept for secret in (ARGUMENT, "o,S3cret", VARIABLE))
    assert "data=@QMPTESTS_SECRET_1@" in kept


def test_a_matrix_keeps_a_definitions_secret_for_its_workers_only(
    source_build: Build, tmp_path: Path
) -> None:
    file = tmp_path / "vm.toml"
    words = ", ".join(f"'{word}'" for word in ("-object", f"secret,id=s,data={ARGUMENT}"))
    file.write_text(f"memory = '64M'\nmachine = 'q35'\nargs = [{words}]\n")
    definition = load(str(file))
    matrix = store.Matrix(
        select="smoke", accelerator="tcg", builds={}, vms={definition.name: definition}, devices={},
        capabilities={}, cells=[],
    )  # fmt: skip
    run = tmp_path / "run"
    run.mkdir(0o755)
    run.chmod(0o755)
    store.write(run, matrix, [source_build])
    cells = run / store.CELLS
    assert cells.stat().st_mode & 0o777 == 0o600
    assert store.read(run).vms == matrix.vms
    store.hide(run, matrix)
    assert cells.stat().st_mode & 0o777 == 0o644
    assert ARGUMENT not in cells.read_text()
    assert "data=@QMPTESTS_SECRET_1@" in cells.read_text()
    assert ARGUMENT not in store.encode(matrix).decode()


def strings(value: Any) -> Iterator[str]:
    """All that is text in what JSON can hold."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from strings(inner)


def test_a_secret_may_be_any_word_that_a_record_has(migration: Migrate) -> None:
    """A password such as `completed` or `source` makes no record that can't be read."""
    profile = (devices.load("idle"),)
    record = migration(vm="none", devices=profile).run().record
    words = {word for word in strings(msgspec.to_builtins(record)) if word.isascii() and word}
    for word in [*sorted(words)[::5], "completed", "source", "tcg"]:
        redaction = Redaction()
        redaction.arguments(["-object", "secret,id=s,data=" + word.replace(",", ",,")])
        hidden = collect.without_secrets(record, redaction)
        assert hidden.result is record.result
        assert hidden.source is not None
        assert hidden.source.name == "source"
