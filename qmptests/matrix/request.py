"""A matrix as a user asks for it, in plain words, and the axes that it means."""

import difflib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from qmptests import builds, pasting
from qmptests.builds import Build
from qmptests.errors import EnvironmentFailure, InputError
from qmptests.matrix import cells, expression, selection, store
from qmptests.matrix.axes import NONE, Axes, all_pairs, parse_capabilities
from qmptests.vm import definition, devices


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the options of `qmptests matrix` and of pytest say.

    Each axis has exactly the values that are named, the first being its ordinary one; an axis of
    which none is named has its default. `builds`: each with each. `sources` and `destinations`
    name the builds of one side; the other, unless it is named too, is all of `builds`. Where no
    builds are named, they are all that were added, or else the QEMU on PATH. `same_build`: a build
    is paired with itself as well.
    """

    builds: Sequence[str] = ()
    sources: Sequence[str] = ()
    destinations: Sequence[str] = ()
    machines: Sequence[str] = ()
    vms: Sequence[str] = ()
    devices: Sequence[str] = ()
    transports: Sequence[str] = ()
    capabilities: Sequence[str] = ()
    accelerator: str = "tcg"
    deprecated: bool = True
    same_build: bool = False


def matrix(
    request: Request, tier: str, expressions: Sequence[str], progress: Callable[[str], None]
) -> tuple[store.Matrix, list[Build]]:
    """The matrix that `request` means, with its cells selected, and its builds.

    `tier` is one of `selection.TIERS`; see `axes` for the rest.
    """
    wanted = [expression.parse(text) for text in expressions]
    made = axes(request, progress)
    chosen = selection.select(cells.cells(made), tier, wanted)
    return store.make(made, chosen, tier, [e.text for e in wanted]), made.builds


def axes(request: Request, progress: Callable[[str], None]) -> Axes:
    """The axes that `request` means; its builds are resolved, and fetched where need be.

    `progress` gets a line for each step that takes time. Raises InputError, and
    EnvironmentFailure for a build that can't be had.
    """
    # What costs nothing to check comes before what may have to be fetched.
    vms = [definition.load(text) for text in _once(request.vms, "dirtier")]
    profiles = [
        None if text == NONE else devices.load(text) for text in _once(request.devices, NONE)
    ]
    sets = [parse_capabilities(text) for text in _once(request.capabilities, NONE)]
    pairs = _pairs(request, progress)
    _check_capabilities(sets, pairs)
    return Axes(
        pairs=pairs,
        vms=vms,
        machines=_once(request.machines),
        devices=profiles,
        transports=_once(request.transports, "unix"),
        capabilities=sets,
        accelerator=request.accelerator,
        deprecated=request.deprecated,
        same_build=request.same_build,
    )


def _once(texts: Iterable[str], *default: str) -> list[str]:
    """Each of `texts` once; `default` if there are none."""
    return list(dict.fromkeys(texts)) or list(default)


def _pairs(request: Request, progress: Callable[[str], None]) -> list[tuple[Build, Build]]:
    both = request.sources and request.destinations
    if request.builds and both:
        raise InputError(
            "builds, sources and destinations are all named: name builds for each pair of them, "
            "or sources and destinations for the pairs that go from one to the other"
        )
    known: dict[tuple[str, str], Build] = {}

    def resolve(specs: Sequence[str]) -> list[Build]:
        """One object for each build, whatever it was called."""
        found = {}
        for spec in specs:
            build = builds.resolve(spec, progress=progress)
            key = build.name, build.digest
            found[key] = known.setdefault(key, build)
        return list(found.values())

    everything = [] if both else resolve(request.builds or _added(progress) or [""])
    if not request.sources and not request.destinations:
        return all_pairs(everything)
    destinations = resolve(request.destinations) or everything
    return [(s, d) for s in resolve(request.sources) or everything for d in destinations]


def _added(progress: Callable[[str], None]) -> list[str]:
    """The names of all added builds; a matrix that leaves one out silently would mislead."""
    usable, broken = builds.inspect_all(progress=progress)
    if broken:
        raise EnvironmentFailure(
            f"the added build {broken[0].name} can't be used: {broken[0].reason}; name the builds "
            f"that are wanted, or `qmptests builds remove {pasting.word(broken[0].name)}`"
        )
    return [build.name for build in usable]


def _check_capabilities(
    sets: Sequence[dict[str, bool]], pairs: Sequence[tuple[Build, Build]]
) -> None:
    """Raise InputError for a capability that no build has: a misspelt one, most likely."""
    known = {name for pair in pairs for build in pair for name in build.facts.capabilities}
    for name in sorted({name for chosen in sets for name in chosen} - known):
        near = difflib.get_close_matches(name, known, 1)
        hint = f": did you mean '{near[0]}'?" if near else ""
        raise InputError(f"no build has a migration capability '{name}'{hint}")
