"""A matrix in its run folder: `cells.json`, and `builds.json` with what is known of its builds.

Who selects writes; who runs cells only reads. Field by field in docs/reference/run-folder.md.
"""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import msgspec

from qmptests import files, jsontext
from qmptests.builds import Build
from qmptests.errors import InputError
from qmptests.matrix.axes import NONE, Axes, capabilities_name
from qmptests.matrix.cells import Cell
from qmptests.matrix.expression import AXES
from qmptests.migration import Plan
from qmptests.migration.collect import build_record
from qmptests.outcome import modes
from qmptests.outcome.record import BuildRecord
from qmptests.redaction import Redaction
from qmptests.vm.definition import Definition
from qmptests.vm.devices import DeviceProfile

SCHEMA = 1
"""The number of the schema of `cells.json`."""

CELLS, BUILDS = "cells.json", "builds.json"


class Matrix(msgspec.Struct, kw_only=True):
    """What was asked for and all cells that came of it: the content of `cells.json`.

    `select` and `expressions`: how the cells that are run were chosen. The mappings hold what the
    names in the cells' coordinates stand for.
    """

    schema: int = SCHEMA
    select: str
    expressions: list[str] = []
    accelerator: str
    builds: dict[str, BuildRecord]
    vms: dict[str, Definition]
    devices: dict[str, DeviceProfile]
    capabilities: dict[str, dict[str, bool]]
    cells: list[Cell]

    @property
    def live(self) -> list[Cell]:
        """The cells that can exist."""
        return [cell for cell in self.cells if not cell.pruned]

    @property
    def selected(self) -> list[Cell]:
        """The cells that are run."""
        return [cell for cell in self.cells if cell.selected]

    def plan(self, cell: Cell, builds: dict[str, Build]) -> Plan:
        """The migration that a cell stands for; `builds` by name, from `read_builds`."""
        at = cell.coordinates
        device = self.devices.get(at["device"])
        return Plan(
            source=builds[at["source"]],
            destination=builds[at["destination"]],
            definition=self.vms[at["vm"]],
            machine=at["machine"],
            devices=() if device is None else (device,),
            accelerator=self.accelerator,
            transport=at["transport"],
            capabilities=self.capabilities[at["capabilities"]],
            cell=cell.id,
        )


def make(axes: Axes, cells: list[Cell], select: str, expressions: list[str]) -> Matrix:
    """The matrix that `axes` and the selected `cells` make."""
    return Matrix(
        select=select,
        expressions=expressions,
        accelerator=axes.accelerator,
        builds={build.name: build_record(build) for build in axes.builds},
        vms={vm.name: vm for vm in axes.vms},
        devices={device.name: device for device in axes.devices if device is not None},
        capabilities={capabilities_name(c): dict(c) for c in axes.capabilities},
        cells=cells,
    )


def encode(matrix: Matrix) -> bytes:
    """The content of `cells.json`, without secrets."""
    content = msgspec.to_builtins(matrix)
    redaction = Redaction()
    for part in ("vms", "devices"):
        content[part] = redaction.tree(content[part])
    return jsontext.encode(content, indent=2)


def write(folder: Path, matrix: Matrix, builds: list[Build]) -> None:
    """Write both files; raises EnvironmentFailure where that can't be done.

    Who runs cells needs all of it: with a secret in a VM definition, `cells.json` is private until
    `hide` has left that out.
    """
    mode = modes.of_files(folder)
    files.write(folder / BUILDS, _to_json(builds), mode)
    whole = jsontext.encode(matrix, indent=2)
    files.write(folder / CELLS, whole, mode if whole == encode(matrix) else mode & 0o600)


def hide(folder: Path, matrix: Matrix) -> None:
    """Leave secrets out once nobody needs them any more; raises EnvironmentFailure."""
    files.write(folder / CELLS, encode(matrix), modes.of_files(folder))


def read(folder: Path) -> Matrix:
    """The matrix of a run; raises InputError."""
    matrix = files.read_json(folder / CELLS, Matrix, "matrix", schema=SCHEMA)
    known: dict[str, Collection[str]] = {
        "source": matrix.builds,
        "destination": matrix.builds,
        "vm": matrix.vms,
        "device": {NONE, *matrix.devices},
        "capabilities": matrix.capabilities,
    }
    for cell in matrix.cells:
        if lacking := set(AXES) - cell.coordinates.keys():
            axes = ", ".join(sorted(lacking))
            raise InputError(f"{folder / CELLS}: cell '{cell.id}' has no coordinate {axes}")
        for axis, names in known.items():
            if (name := cell.coordinates[axis]) not in names:
                raise InputError(f"{folder / CELLS}: cell '{cell.id}': unknown {axis} '{name}'")
    return matrix


def read_builds(folder: Path) -> dict[str, Build]:
    """The builds of a run by name, as they were when it began; raises InputError."""
    found = files.read_json(folder / BUILDS, list[Build], "builds", dec_hook=_from_json)
    return {build.name: build for build in found}


def _to_json(builds: list[Build]) -> bytes:
    """The same bytes each time: sets come in order."""
    return msgspec.json.encode(builds, enc_hook=str, order="deterministic")


def _from_json(kind: type, value: Any) -> Any:
    assert kind is Path, kind
    return Path(value)
