"""The pytest plugin: options and markers, the fixtures of `qmptests.fixtures`, and the controller.

It loads in every pytest of its environment, so it imports nothing but pytest until a matrix is
asked for or a test wants one of the fixtures.
"""

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from qmptests.fixtures import options, rootdir

pytest.register_assert_rewrite("qmptests.suites")

# In the order in which they import each other.
pytest_plugins = [
    "qmptests.fixtures.cells",
    "qmptests.fixtures.builds",
    "qmptests.fixtures.needs",
    "qmptests.fixtures.migrating",
    "qmptests.fixtures.verdicts",
    "qmptests.fixtures.vfio",
]

#: Option -> its text; it may be repeated. The ini key is a list, or words for what was one once.
_LISTS = {
    "qemu_build": "build for both sides; repeated: each with each, or source, then destination",
    "qemu_source": "build that VMs start in: a name, debian:SUITE, a binary, a QEMU tree",
    "qemu_destination": "build that they go to (default: as the source)",
    "qemu_machine": "machine type, pattern or family (default: the newest that both builds know)",
    "qemu_vm": "VM definition: a name or the path of a TOML file (default: dirtier)",
    "qemu_device": "device profile: NAME[,KEY=VALUE...], or 'none'",
    "qemu_transport": "how the stream travels: unix, tcp, fd (default: unix)",
    "qemu_capabilities": "set of migration capabilities: multifd+return-path, or 'none'",
    "qemu_cell": "only cells with these coordinates: source=10.0*,machine!=*q35*",
    "qemu_known_issues": "TOML file of known issues",
}
_VALUES = {
    "qemu_accel": "accelerator (default: tcg)",
    "qemu_results": "folder for the run, which must not exist (default: a temporary one)",
    "qemu_results_mode": "who may read the results, in octal (default: 0700, only you)",
    "qemu_matrix": "run tests that take `cell` on these cells: smoke, pairwise or full",
    "qemu_args": "more QEMU options for both sides",
    "qemu_source_args": "more QEMU options for the source",
    "qemu_destination_args": "more QEMU options for the destination",
    "qemu_wrapper": "words before each QEMU's command line ('gdb --args'); no deadlines then",
}
#: Those of them that a shell's words are made of.
_WORDS = ("qemu_args", "qemu_source_args", "qemu_destination_args", "qemu_wrapper")
_FLAGS = {
    "qemu_no_deprecated": "leave deprecated machine types out of the matrix",
    "qemu_same_build": "pairs of a build with itself as well, where there are several builds",
    "qemu_results_numbered": "if that folder is there, one with a number after its name",
    "qemu_pause_on_failure": "keep both VMs of a failed migration until Enter is pressed",
}
#: pytest's options that ask for something else than to run tests, or to collect them.
_QUESTIONS = ("help", "version", "markers", "showfixtures", "show_fixtures_per_test", "cacheshow")
MARKERS = (
    "qemu_needs(capability=, parameter=, command=, device=, trace_event=, machine=, "
    "accelerator=, version=, side=): skip, by name, where a build lacks it",
    "qemu_cells(expression, select=, vfio=): only these of the selected cells; select='smoke'; "
    "vfio=True: of builds that take emulated VFIO devices",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("qemu", "QEMU live migration (qmptests)")
    for name, text in _LISTS.items():
        flag = f"--{name.replace('_', '-')}"
        group.addoption(flag, action="append", default=[], metavar="VALUE", help=text)
    for name, text in _VALUES.items():
        group.addoption(f"--{name.replace('_', '-')}", default=None, metavar="VALUE", help=text)
    for name, text in _FLAGS.items():
        group.addoption(f"--{name.replace('_', '-')}", action="store_true", help=text)
    parser.addini("qemu_build", _LISTS["qemu_build"], type="args", default=[])
    for name, text in {**_LISTS, **_VALUES}.items():
        if name != "qemu_build":
            parser.addini(name, text, default="")


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    from qmptests.fixtures import hooks  # noqa: PLC0415

    pluginmanager.add_hookspecs(hooks)


@pytest.hookimpl(wrapper=True)
def pytest_cmdline_main(config: pytest.Config) -> Generator[None, object, object]:
    """Cells take 0.1 s or minutes: what a worker has left is for those that have nothing."""
    if _parallel(config) and config.option.dist == "no" and not config.option.distload:
        # Nothing was chosen; xdist would take "load" now.
        config.option.dist = "worksteal" if _wants_matrix(config) else "no"
    return (yield)


def _parallel(config: pytest.Config) -> bool:
    """Whether xdist is there, and is to run the tests."""
    return bool(config.getoption("numprocesses", None))


@pytest.hookimpl(trylast=True)  # pytest's temporary directory is known then
def pytest_configure(config: pytest.Config) -> None:
    for text in MARKERS:
        config.addinivalue_line("markers", text)
    options.refuse_unknown_keys(config, {*_LISTS, *_VALUES})
    rootdir.check_options(config, {f"--{n.replace('_', '-')}" for n in (*_LISTS, *_VALUES)})
    for name in _WORDS:
        options.words(config, name)
    for name in (*_LISTS, *_VALUES):
        if name not in _WORDS:
            options.refuse_empty(config, name)
    if options.option(config, "qemu_results_mode"):
        options.mode(config)
    if config.getoption("qemu_pause_on_failure") and _parallel(config):
        raise pytest.UsageError("--qemu-pause-on-failure waits for a person: leave -n out")
    if not hasattr(config, "workerinput") and _wants_matrix(config):
        options.refuse_empty_expressions(config)
        from qmptests.controller import Controller  # noqa: PLC0415

        controller = Controller.begin(config)
        config.pluginmanager.register(controller, "qmptests-controller")


def _wants_matrix(config: pytest.Config) -> bool:
    """Whether a matrix was asked for, or one of our suites."""
    if any(config.getoption(name, None) for name in _QUESTIONS):
        return False
    if config.getoption("qemu_matrix") or config.getini("qemu_matrix"):
        return True
    return bool(config.getoption("qemu_cell")) or any(map(_is_of_suites, config.args))


def _is_of_suites(argument: str) -> bool:
    name = argument.partition("::")[0]
    suites = Path(__file__).parent / "suites"
    if name == "qmptests.suites" or name.startswith("qmptests.suites."):
        return True
    return Path(name).resolve().is_relative_to(suites)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """An xdist worker reads the matrix from the run folder."""
    from qmptests.fixtures.cells import RUN  # noqa: PLC0415

    node.workerinput[rootdir.WORKER_KEY] = rootdir.ini_problem(node.config)
    run = node.config.stash.get(RUN, None)
    if run is not None:
        node.workerinput["qmptests_run"] = str(run.folder)
