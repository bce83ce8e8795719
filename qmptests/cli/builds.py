"""`qmptests builds`: add, list, show and remove builds."""

import contextlib
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from typing import Any

import click
import msgspec

from qmptests import builds as registry
from qmptests.builds import Broken, Build
from qmptests.cli import terminal
from qmptests.errors import EnvironmentFailure


@click.group()
def builds() -> None:
    """QEMU builds: what there is, and what each can do.

    A SPEC is debian:SUITE (such as debian:trixie-backports), a QEMU binary, or a QEMU source or
    build tree. Wherever a build is named, its SPEC serves too.
    """


@builds.command()
@click.argument("specs", metavar="SPEC...", nargs=-1, required=True)
@click.option("--name", help="Call it so instead of by its version.")
@click.option("--refresh", is_flag=True, help="Ask the mirror what the suite has now.")
def add(specs: tuple[str, ...], name: str | None, refresh: bool) -> None:
    """Obtain, probe and remember builds; they are there for any later run, also offline."""
    with progress_line() as progress:
        added = registry.add(specs, name, refresh, progress=progress)
    for build in added:
        click.echo(f"{build.name}  {build.facts.version_text}  {build.spec}")


@builds.command("list")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_(as_json: bool) -> None:
    """Which builds there are; the exit status is 3 if one of them can't be used."""
    with progress_line() as progress:
        usable, broken = registry.inspect_all(progress=progress)
    if as_json:
        rows = [_summary(build) for build in usable]
        rows += [{"name": b.name, "spec": b.spec, "problem": b.reason} for b in broken]
        click.echo(json.dumps(rows, indent=2))
    else:
        _list(usable, broken)
    if broken:
        sys.exit(EnvironmentFailure.exit_code)


def _list(usable: list[Build], broken: list[Broken]) -> None:
    if not usable and not broken:
        click.echo("no builds yet: `qmptests builds add debian:trixie` obtains one", err=True)
        return
    table: list[tuple[str, ...]] = [("NAME", "SPEC", "VERSION", "MACHINES", "TRACE EVENTS")]
    for build in usable:
        facts = build.facts
        table.append(
            (
                build.name,
                build.spec,
                facts.version_text,
                _range(build),
                str(len(facts.trace_events)),
            )
        )
    _print_columns(table)
    for item in broken:
        words = (item.name, item.spec, f"can't be used: {item.reason}")
        click.echo("  ".join(filter(None, words)), err=True)


@builds.command()
@click.argument("name")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, with all names.")
def show(name: str, as_json: bool) -> None:
    """What the build NAME is and can do; a SPEC serves too."""
    with progress_line() as progress:
        build = registry.resolve(name, progress=progress)
    if as_json:
        click.echo(json.dumps(_everything(build), indent=2))
        return
    facts = build.facts
    machines = [
        machine.name + (f" ({machine.alias})" if machine.alias else "")
        for machine in facts.machines
        if not machine.deprecated
    ]
    deprecated = [machine.name for machine in facts.machines if machine.deprecated]
    rows = [
        ("name", build.name + ("" if build.registered else " (not added)")),
        ("spec", build.spec),
        ("version", facts.version_text),
        *((key, value) for key, value in build.origin.items() if key not in ("kind", "path")),
        ("command", " ".join([*(f"{k}={v}" for k, v in build.env.items()), *build.argv])),
        ("accelerators", ", ".join(facts.accelerators)),
        ("machines", ", ".join(machines)),
        ("deprecated", ", ".join(deprecated)),
        ("capabilities", ", ".join(sorted(facts.capabilities))),
        ("parameters", ", ".join(sorted(facts.parameters))),
        ("devices", f"{len(facts.devices)} (--json names them)"),
        ("trace events", f"{len(facts.trace_events)} by {', '.join(facts.trace_backends)}"),
    ]
    width = max(len(key) for key, _ in rows)
    for key, value in rows:
        if value:
            click.echo(f"{key.ljust(width)}  {value}")


@builds.command()
@click.argument("name")
def remove(name: str) -> None:
    """Forget the build NAME, and delete what was fetched for it."""
    with progress_line() as progress:
        registry.remove(name, progress=progress)


@contextlib.contextmanager
def progress_line() -> Iterator[Callable[[str], None]]:
    """What is being done: one changing line on a terminal, a line for each step elsewhere."""
    if sys.stderr.isatty():
        shown = False

        def rewrite(text: str) -> None:
            nonlocal shown
            shown = True
            terminal.rewrite(text[: shutil.get_terminal_size().columns - 1])

        try:
            yield rewrite
        finally:
            if shown:
                terminal.clear()
        return
    last = ""

    def append(text: str) -> None:
        nonlocal last
        step = text.partition(", ")[0]  # what follows a comma counts within the step
        if step != last:
            click.echo(step, err=True)
        last = step

    yield append


def _range(build: Build) -> str:
    names = list(build.facts.versions_of("q35").values())
    if names:
        return f"{names[0]} to {names[-1]}"
    return f"{len(build.facts.machines)} types"


def _summary(build: Build) -> dict[str, Any]:
    return {
        "name": build.name,
        "spec": build.spec,
        "version": build.facts.version_text,
        "binary": str(build.binary),
        "digest": build.digest,
        "origin": build.origin,
        "accelerators": build.facts.accelerators,
        "machines": [machine.name for machine in build.facts.machines],
    }


def _everything(build: Build) -> dict[str, Any]:
    return {
        **_summary(build),
        "registered": build.registered,
        "argv": list(build.argv),
        "env": build.env,
        # Sets come in any order; listings that are compared must not.
        "facts": msgspec.to_builtins(build.facts, order="deterministic"),
    }


def _print_columns(rows: list[tuple[str, ...]]) -> None:
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        click.echo("  ".join(cells).rstrip())
