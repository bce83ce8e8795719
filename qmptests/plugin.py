"""The pytest plugin: options, and the fixtures of `qmptests.fixtures`.

It loads in every pytest of its environment, so it imports nothing but pytest.
"""

import pytest

pytest_plugins = ["qmptests.fixtures.builds", "qmptests.fixtures.migrating"]

_OPTIONS = {
    "qemu_source": "build that the VM starts in: a name, debian:SUITE, a binary, a QEMU tree",
    "qemu_destination": "build that it goes to (default: the source)",
    "qemu_machine": "machine type (default: the newest that both builds know)",
    "qemu_vm": "VM definition: a name or the path of a TOML file (default: dirtier)",
    "qemu_accel": "accelerator (default: tcg)",
    "qemu_results": "folder for the evidence (default: pytest's temporary directory)",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("qemu", "QEMU live migration (qmptests)")
    group.addoption(
        "--qemu-build",
        action="append",
        default=[],
        metavar="SPEC",
        help="build for both sides; given twice: source, then destination",
    )
    for name, text in _OPTIONS.items():
        group.addoption(f"--{name.replace('_', '-')}", default=None, metavar="VALUE", help=text)
        parser.addini(name, text, default="")
