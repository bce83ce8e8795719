"""What a kernel does not let a device have, seen by real QEMUs: files of a disk, and BARs."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from qmptests.builds import Build
from qmptests.vfio.sources import is_memory

RUN = (sys.executable, "-m", "qmptests.cli.main", "vfio", "run", "--device", "idle")
DEVICE = ("-object", "iommufd,id=i0,fd=@iommufd", "-device", "vfio-pci,id=vf0,fd=@vfio0,iommufd=i0")
SECONDS = 120
QUIT = '{"execute": "qmp_capabilities"}{"execute": "quit"}'


def qemu(build: Build, *words: str) -> list[str]:
    """A command line with one device."""
    machine = ("-nodefaults", "-display", "none", "-machine", "q35", "-m", "64M", "-qmp", "stdio")
    return [*RUN, "--", *build.argv, *machine, *words, *DEVICE]


def with_file(build: Build, folder: Path) -> "subprocess.CompletedProcess[str]":
    """A QEMU whose guest's memory is a file there; it quits at once."""
    memory = f"memory-backend-file,id=m,size=64M,share=on,mem-path={folder}/memory"
    return subprocess.run(
        qemu(build, "-S", "-object", memory, "-machine", "memory-backend=m"),
        input=QUIT,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


@pytest.fixture
def memory_folder() -> Iterator[Path]:
    """A folder of tmpfs."""
    if not Path("/dev/shm").is_dir():
        pytest.skip("there is no /dev/shm")
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="qmptests-test-") as folder:
        file = os.open(folder, os.O_TMPFILE | os.O_RDWR)
        try:
            if not is_memory(file):
                pytest.skip("/dev/shm is no memory")
        finally:
            os.close(file)
        yield Path(folder)


def test_a_file_of_a_disk_is_no_guests_memory(destination_build: Build, disk_folder: Path) -> None:
    """11.1 maps the file itself (IOMMU_IOAS_MAP_FILE)."""
    done = with_file(destination_build, disk_folder)
    assert done.returncode == 1
    assert "vfio_container_dma_map(" in done.stderr
    assert "= -22 (Invalid argument)" in done.stderr


def test_nor_is_it_for_a_qemu_that_maps_its_own_memory(
    source_build: Build, disk_folder: Path
) -> None:
    """10.0 knows IOMMU_IOAS_MAP alone: pages of a disk can't be pinned to be written."""
    done = with_file(source_build, disk_folder)
    assert done.returncode == 1
    assert "vfio_container_dma_map(" in done.stderr
    assert "= -14 (Bad address)" in done.stderr


@pytest.mark.parametrize("build", ["source_build", "destination_build"])
def test_a_file_of_tmpfs_is(
    build: str, memory_folder: Path, request: pytest.FixtureRequest
) -> None:
    done = with_file(request.getfixturevalue(build), memory_folder)
    assert done.returncode == 0, done.stderr
    assert "vfio_container_dma_map" not in done.stderr
    assert "return" in json.loads(done.stdout.splitlines()[-1])


def test_a_bar_is_not_mapped_for_other_devices_and_qemu_says_so(source_build: Build) -> None:
    """Once the firmware has given the BAR its address."""
    with subprocess.Popen(
        qemu(source_build),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin
        assert process.stderr
        try:
            said = []
            for line in process.stderr:
                said.append(line)
                if "PCI peer-to-peer transactions on BARs are not supported" in line:
                    break
            process.stdin.write(QUIT)
            process.stdin.close()
            said += process.stderr.readlines()
            assert process.wait(SECONDS) == 0
        finally:
            process.kill()
    text = "".join(said)
    assert "IOMMU_IOAS_MAP failed: Bad address, PCI BAR?" in text
    assert "= -14 (Bad address)" in text
