"""A matrix in its run folder: `cells.json`, and `builds.json` with what is known of its builds.

Who selects writes; who runs cells only reads. Field by field in docs/reference/run-folder.md.
"""

from pathlib import Path
from typing import Any

import msgspec

from qmptests.builds import Build
from qmptests.errors import EnvironmentFailure, InputError
from qmptests.matrix import files
from qmptests.matrix.axes import Axes, capabilities_name
from qmptests.matrix.cells import Cell
from qmptests.migration import Plan
from qmptests.migration.collect import build_record
from qmptests.outcome.record import BuildRecord
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
    """The content of `cells.json`."""
    return msgspec.json.format(msgspec.json.encode(matrix)) + b"\n"


def write(folder: Path, matrix: Matrix, builds: list[Build]) -> None:
    """Write both files; raises EnvironmentFailure where that can't be done."""
    try:
        (folder / BUILDS).write_bytes(_to_json(builds))
        (folder / CELLS).write_bytes(encode(matrix))
    except OSError as error:
        raise EnvironmentFailure(f"cannot write to {folder}: {error.strerror}") from error


def read(folder: Path) -> Matrix:
    """The matrix of a run; raises InputError."""
    return files.read(folder / CELLS, Matrix, SCHEMA, "matrix")


def read_builds(folder: Path) -> dict[str, Build]:
    """The builds of a run by name, as they were when it began; raises InputError."""
    file = folder / BUILDS
    try:
        found = msgspec.json.decode(file.read_bytes(), type=list[Build], dec_hook=_from_json)
    except OSError as error:
        raise InputError(f"no builds in {folder}: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError(f"{file} is not a list of builds: {error}") from error
    return {build.name: build for build in found}


def _to_json(builds: list[Build]) -> bytes:
    """The same bytes each time: sets come in order."""
    return msgspec.json.encode(builds, enc_hook=str, order="deterministic")


def _from_json(kind: type, value: Any) -> Any:
    assert kind is Path, kind
    return Path(value)
