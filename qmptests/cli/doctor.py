"""`qmptests doctor`: what this host can do and what it lacks, each with the remedy."""

import json
import os
import platform
import resource
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import msgspec

from qmptests import builds, dirs, pasting
from qmptests.builds import Build, spec
from qmptests.cli import terminal
from qmptests.cli.builds import progress_line
from qmptests.errors import EnvironmentFailure, QmptestsError
from qmptests.hosts.scratch import blocking_scratch
from qmptests.vfio import probe

Progress = Callable[[str], None]

#: Bytes: a suite's QEMU takes some 40 MB packed and 170 MB unpacked.
ENOUGH_CACHE = 1 << 30

#: Descriptors: a VM with many multifd channels takes tens, and tests run side by side.
ENOUGH_FILES = 1024


_JOIN_KVM = "add yourself to the group kvm; until then use tcg"
_REMEDIES = {
    "kvm": "run on real hardware or with nested virtualization; until then tcg does the work",
    "tcg": "use another build",
}


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at. `state` is ok, lacking (with a remedy) or broken."""

    name: str
    state: str
    detail: str
    remedy: str = ""


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(as_json: bool) -> None:
    """What this host can do and what it lacks, each with the remedy.

    Accelerators are judged by running a guest. The exit status is 3 if migrations can't run here.
    """
    with progress_line() as progress:
        findings = list(examine(progress))
    if as_json:
        click.echo(json.dumps([msgspec.to_builtins(item) for item in findings], indent=2))
    else:
        _print(findings)
    broken = [item for item in findings if item.state == "broken"]
    if broken:
        raise EnvironmentFailure(f"{broken[0].name}: {broken[0].detail}; {broken[0].remedy}")


def examine(progress: Progress) -> Iterator[Finding]:
    """Look at everything, one finding after the other."""
    vfio = _vfio()  # it forks, and what comes next starts a thread
    yield _python()
    yield from _cache()
    yield from _apt(progress)
    yield _files()
    yield vfio
    yield _path()
    usable, unusable = builds.inspect_all(progress=progress)
    yield from _builds(usable, unusable)
    for build in usable:
        yield from _accelerators(build, progress)
    yield _kvm(usable)


def _python() -> Finding:
    detail = f"{platform.python_version()} on Linux {platform.release()} {platform.machine()}"
    return Finding("python", "ok", f"{detail}, {os.cpu_count()} CPUs")


def _cache() -> Iterator[Finding]:
    path = dirs.cache_dir()
    existing = next(folder for folder in (path, *path.parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    size = f"{path}, {free / 1e9:.1f} GB free"
    move = "set QMPTESTS_CACHE to a directory on another disk"
    if not os.access(existing, os.W_OK):
        yield Finding("cache", "lacking", f"{size}; it can't be written", move)
    elif free < ENOUGH_CACHE:
        yield Finding("cache", "lacking", size, f"free some space, or {move}")
    else:
        yield Finding("cache", "ok", size)


def _apt(progress: Progress) -> Iterator[Finding]:
    from qmptests.packages import apt, sources  # noqa: PLC0415

    try:
        machine = apt.machine()
        archive = sources.require_archive(Path(machine.main), Path(machine.parts))
    except QmptestsError as error:
        yield Finding("apt", "lacking", *_split(str(error)))
        return
    yield Finding("apt", "ok", f"Debian's packages for {machine.architecture}")
    mirror = archive.uris[0]
    progress(f"asking {mirror}")
    with blocking_scratch() as scratch:
        problem = apt.ask_mirror(archive, scratch)
    if problem:
        yield Finding(
            "mirror",
            "lacking",
            f"{mirror} doesn't answer ({problem})",
            "what is in the cache works without it; for more, see to the network or the proxy",
        )
    else:
        yield Finding("mirror", "ok", mirror)


def _files() -> Finding:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    detail = f"{soft} open files, could be {hard}"
    if soft < ENOUGH_FILES:
        return Finding("descriptors", "lacking", detail, f"`ulimit -n {min(hard, 65536)}`")
    return Finding("descriptors", "ok", detail)


def _vfio() -> Finding:
    proof = probe.prove()
    if proof.problem:
        return Finding("emulated VFIO", "lacking", proof.problem, proof.remedy)
    detail = "a child's system calls were served"
    return Finding("emulated VFIO", "ok", f"{detail}; {proof.note}" if proof.note else detail)


def _path() -> Finding:
    found = sorted(path.name for path in spec.on_path())
    if found:
        return Finding("qemu on PATH", "ok", ", ".join(found))
    return Finding(
        "qemu on PATH", "ok", "none; not needed, builds are obtained with `qmptests builds add`"
    )


def _builds(usable: list[Build], unusable: list[builds.Broken]) -> Iterator[Finding]:
    if usable:
        yield Finding("builds", "ok", ", ".join(build.name for build in usable))
    elif not unusable:
        yield Finding("builds", "lacking", "none yet", "`qmptests builds add debian:trixie`")
    for item in unusable:
        yield Finding(
            f"build {item.name}",
            "lacking",
            item.reason,
            f"`qmptests builds remove {pasting.word(item.name)}`"
            + (f", or `qmptests builds add {pasting.word(item.spec)}`" if item.spec else ""),
        )


def _accelerators(build: Build, progress: Progress) -> Iterator[Finding]:
    from qmptests.builds import accelerators  # noqa: PLC0415 - brings the event loop along

    try:
        measured = accelerators.measure(build, progress=progress, refresh=True)
    except QmptestsError as error:
        yield Finding(f"{build.name}: accelerators", "broken", *_split(str(error)))
        return
    for item in measured:
        name = f"{build.name}: {item.name}"
        if item.usable:
            yield Finding(
                name, "ok", f"{item.rounds_per_s / 1e6:,.0f} million loop rounds a second"
            )
        elif item.name in _REMEDIES:  # the others are for hosts of another kind
            remedy = _JOIN_KVM if "Permission denied" in item.reason else _REMEDIES[item.name]
            yield Finding(name, "lacking", item.reason, remedy)
    if measured and not any(item.usable for item in measured):
        yield Finding(
            f"{build.name}: accelerators", "broken", "no guest runs under any", "use another build"
        )


def _kvm(usable: list[Build]) -> Finding:
    device = Path("/dev/kvm")
    measured = " (whether a guest gets on under it, see above)" if usable else ""
    if not device.exists():
        return Finding(
            "/dev/kvm", "lacking", "not there", "load kvm_intel or kvm_amd; until then use tcg"
        )
    if not os.access(device, os.R_OK | os.W_OK):
        return Finding("/dev/kvm", "lacking", "not ours to open", _JOIN_KVM)
    return Finding("/dev/kvm", "ok", f"can be opened{measured}")


def _split(text: str) -> tuple[str, str]:
    """An error's text as finding and remedy, which stand on either side of its last colon."""
    finding, colon, remedy = text.rpartition(": ")
    return (finding, remedy) if colon else (text, "")


def _print(findings: list[Finding]) -> None:
    colours = {"ok": 32, "lacking": 33, "broken": 31}
    width = max(len(item.name) for item in findings)
    for item in findings:
        terminal.coloured(item.state.ljust(7), colours[item.state])
        click.echo(f"  {item.name.ljust(width)}  {item.detail}")
        if item.remedy:
            click.echo(f"{' ' * (width + 11)}-> {item.remedy}")
