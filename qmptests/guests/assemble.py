"""Assembles the dirtier: `python -m qmptests.guests.assemble` rewrites its binary.

Needs GNU binutils for x86 (`as`, `ld`, `objcopy`). The result has no time stamps, paths or symbols
in it, so the same source gives the same bytes everywhere.
"""

import shutil
import subprocess
import tempfile
from pathlib import Path

from qmptests.errors import EnvironmentFailure
from qmptests.guests.image import BINARY, IMAGE_SIZE

SOURCE = BINARY.with_suffix(".S")
TOOLS = ("as", "ld", "objcopy")
_LOAD_ADDRESS = (1 << 32) - IMAGE_SIZE


def assemble() -> bytes:
    """The program that the source makes.

    Raises EnvironmentFailure if a tool is missing or fails.
    """
    if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
        raise EnvironmentFailure(
            f"the dirtier can't be assembled without {', '.join(missing)}; install GNU binutils"
        )
    with tempfile.TemporaryDirectory() as directory:
        program, linked, flat = (Path(directory, f"dirtier.{end}") for end in ("o", "elf", "bin"))
        _run("as", "--32", "-o", program, SOURCE)
        _run("ld", "-m", "elf_i386", f"-Ttext={_LOAD_ADDRESS:#x}", "-o", linked, program)
        _run("objcopy", "-O", "binary", "-j", ".text", linked, flat)
        return flat.read_bytes()


def _run(*command: str | Path) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        why = " ".join(done.stderr.split()) or f"exit status {done.returncode}"
        raise EnvironmentFailure(f"{command[0]} could not assemble {SOURCE}: {why}")


if __name__ == "__main__":
    BINARY.write_bytes(assemble())
