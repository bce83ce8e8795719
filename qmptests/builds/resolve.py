"""From a name or SPEC to a build, and the registry's four commands."""

import contextlib
from collections.abc import Callable, Sequence

import msgspec

from qmptests import packages, pasting
from qmptests.builds import locate, registry, spec
from qmptests.builds.build import Build
from qmptests.builds.facts import Facts
from qmptests.builds.locate import Located
from qmptests.builds.registry import Record
from qmptests.builds.storage import builds_directory, recall, write_json
from qmptests.errors import EnvironmentFailure, InputError, QmptestsError

#: Part of the facts' file names: what an older prober noted is not read by a newer one.
FACTS_FORMAT = 3


class Broken(msgspec.Struct, frozen=True):
    """An added build that can't be used now, and why."""

    name: str
    spec: str
    reason: str


def _silent(_: str) -> None:
    """Progress that nobody wants to see."""


def resolve(spec_or_name: str = "", *, progress: Callable[[str], None] = _silent) -> Build:
    """The build that an added build's name or a SPEC stands for.

    A Debian suite that is not in the cache yet is fetched and added; anything else need not be
    added to be used. The empty text stands for the QEMU on PATH. `progress` gets a line for each
    step that takes time.

    Raises InputError where there is no such thing, or nothing that works; EnvironmentFailure if
    it can't be fetched.
    """
    record = registry.find(spec_or_name) if spec_or_name else None
    if record is not None:
        return _from_record(record, progress=progress)
    parsed = spec.parse(spec_or_name)
    located = _locate(parsed, progress=progress)
    if (known := _registered(str(parsed), located)) is not None:
        return _build(known.name, str(parsed), located, registered=True, progress=progress)
    if isinstance(parsed, spec.Suite):
        # A cache that can't be written is good enough for what is in it.
        with contextlib.suppress(EnvironmentFailure):
            return _register(str(parsed), located, None, progress=progress)
    facts = _facts(located, progress=progress)
    name = registry.propose_name(
        _version(facts), located.label, {record.name for record in registry.records()}
    )
    return _build(name, str(parsed), located, registered=False, progress=progress)


def add(
    specs: Sequence[str],
    name: str | None = None,
    refresh: bool = False,
    *,
    progress: Callable[[str], None] = _silent,
) -> list[Build]:
    """Add builds, and probe them. One that is there already keeps its name unless one is given.

    `refresh`: ask the mirror again for what a Debian suite has now. Raises as `resolve` does, and
    InputError for a name that can't be or is taken.
    """
    if name is not None:
        registry.check_name(name)
        if len(specs) != 1:
            raise InputError(f"one name can't be given to {len(specs)} builds: add them one by one")
    added = []
    for text in specs:
        parsed = spec.parse(text)
        located = _locate(parsed, progress=progress, refresh=refresh, repair=True)
        known = _registered(str(parsed), located)
        if known is not None and name in (None, known.name):
            added.append(
                _build(known.name, str(parsed), located, registered=True, progress=progress)
            )
        else:
            added.append(_register(str(parsed), located, name, progress=progress))
    return added


def list_builds(*, progress: Callable[[str], None] = _silent) -> list[Build]:
    """All added builds that can be used."""
    return inspect_all(progress=progress)[0]


def inspect_all(*, progress: Callable[[str], None]) -> tuple[list[Build], list[Broken]]:
    """All added builds, and apart from them those that can't be used now."""
    builds, broken = [], []
    for name in registry.damaged():
        broken.append(Broken(name, "", f"what is noted of it in {builds_directory()} is damaged"))
    for record in registry.records():
        try:
            builds.append(_from_record(record, progress=progress, fetch=False))
        except QmptestsError as error:
            broken.append(Broken(record.name, record.spec, str(error)))
    return builds, broken


def remove(name: str, *, progress: Callable[[str], None] = _silent) -> None:
    """Forget an added build; what was fetched for it goes too, unless another one is made of it."""
    with registry.changing(progress):
        if name in registry.damaged():
            registry.drop(name)
            return
        record = registry.find(name)
        if record is None:
            matching = [item for item in registry.records() if item.spec == name]
            if len(matching) != 1:
                names = ", ".join(item.name for item in registry.records()) or "none"
                raise InputError(f"'{name}' is no added build; added are: {names}")
            record = matching[0]
        registry.drop(record.name)
        shared = any(item.digest == record.digest for item in registry.records())
    if record.spec.startswith("debian:") and not shared:
        packages.remove(record.digest, progress=progress)


def _from_record(record: Record, *, progress: Callable[[str], None], fetch: bool = True) -> Build:
    parsed = spec.parse(record.spec)
    if not isinstance(parsed, spec.Suite):
        located = _locate(parsed, progress=progress)
        return _build(record.name, record.spec, located, registered=True, progress=progress)
    tree = packages.find(parsed.suite, record.digest)
    if tree is not None:
        located = locate.from_tree(tree, parsed.suite)
    elif fetch:
        located = _locate(parsed, progress=progress)
        if located.digest != record.digest:
            raise EnvironmentFailure(
                f"the packages of build {record.name} are gone from the cache, and {record.spec} "
                f"has others now: `qmptests builds remove {pasting.word(record.name)}`, "
                "and add it again"
            )
    else:
        raise EnvironmentFailure("its packages are gone from the cache: add it again")
    return _build(record.name, record.spec, located, registered=True, progress=progress)


def _locate(
    parsed: spec.Spec,
    *,
    progress: Callable[[str], None],
    refresh: bool = False,
    repair: bool = False,
) -> Located:
    if isinstance(parsed, spec.Suite):
        return locate.from_suite(parsed, progress=progress, refresh=refresh, repair=repair)
    if isinstance(parsed, spec.BuildTree):
        return locate.from_build_tree(parsed)
    return locate.from_binary(parsed)


def _registered(text: str, located: Located) -> Record | None:
    """The added build that this is. A suite's older packages are another build."""
    for record in registry.records():
        if record.spec == text and (
            not text.startswith("debian:") or record.digest == located.digest
        ):
            return record
    return None


def _register(
    text: str, located: Located, name: str | None, *, progress: Callable[[str], None]
) -> Build:
    facts = _facts(located, progress=progress)
    with registry.changing(progress):
        taken = {record.name: record for record in registry.records()}
        known = _registered(text, located)
        if name is None:
            name = (
                known.name
                if known
                else registry.propose_name(_version(facts), located.label, taken)
            )
        elif name in taken and taken[name] != known:
            raise InputError(
                f"the name '{name}' is taken by {taken[name].spec}: choose another one, or "
                f"`qmptests builds remove {pasting.word(name)}` first"
            )
        registry.put(Record(name, text, located.digest))
        if known is not None and known.name != name:
            registry.drop(known.name)
    return _build(name, text, located, registered=True, progress=progress)


def _build(
    name: str,
    text: str,
    located: Located,
    *,
    registered: bool,
    progress: Callable[[str], None],
) -> Build:
    return Build(
        name=name,
        spec=text,
        binary=located.binary,
        argv=located.argv,
        env=located.env,
        origin=located.origin,
        digest=located.digest,
        facts=_facts(located, progress=progress),
        registered=registered,
    )


def _facts(located: Located, *, progress: Callable[[str], None]) -> Facts:
    """What is known of this content, or what probing finds."""
    key = (located.digest, located.argv, tuple(sorted(located.env.items())))
    if key in _probed:
        return _probed[key]
    path = builds_directory() / "facts" / f"{located.digest}-{FACTS_FORMAT}.json"
    facts = recall(path, Facts)
    if facts is None:
        from qmptests.builds.probe import probe  # noqa: PLC0415 - what is known needs no monitor

        progress(f"asking {located.binary} what it can do")
        try:
            facts = probe(located)
        except InputError as error:
            if what := locate.damage(located):
                raise EnvironmentFailure(f"the build is damaged: {what}") from error
            raise
        write_json(path, facts)
    _probed[key] = facts
    return facts


#: What this process has read already.
_probed: dict[object, Facts] = {}


def _version(facts: Facts) -> str:
    return ".".join(str(number) for number in facts.version)
