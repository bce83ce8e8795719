"""The numbers and structures of `abi` and `arch` are those of the kernel's headers.

A C compiler is asked about each: where a field begins, how many bytes it has, whether it is signed,
how large the structure is, what a number is.
"""

import os
import subprocess
import types
from collections.abc import Iterable
from enum import IntEnum, IntFlag
from pathlib import Path
from typing import NamedTuple

import pytest

from qmptests.vfio import abi, arch
from qmptests.vfio.abi import Layout

#: How the C name of an enum's member is made, and the header that defines it.
ENUMS: dict[type[IntEnum | IntFlag], tuple[str, str]] = {
    abi.Vfio: (abi.VFIO_H, "VFIO_{}"),
    abi.OtherRequest: (abi.VFIO_H, "{}"),
    abi.DeviceFlag: (abi.VFIO_H, "VFIO_DEVICE_FLAGS_{}"),
    abi.RegionFlag: (abi.VFIO_H, "VFIO_REGION_INFO_FLAG_{}"),
    abi.Region: (abi.VFIO_H, "VFIO_PCI_{}_REGION_INDEX"),
    abi.IrqInfoFlag: (abi.VFIO_H, "VFIO_IRQ_INFO_{}"),
    abi.Irq: (abi.VFIO_H, "VFIO_PCI_{}_IRQ_INDEX"),
    abi.IrqSetFlag: (abi.VFIO_H, "VFIO_IRQ_SET_{}"),
    abi.FeatureFlag: (abi.VFIO_H, "VFIO_DEVICE_FEATURE_{}"),
    abi.Feature: (abi.VFIO_H, "VFIO_DEVICE_FEATURE_{}"),
    abi.MigrationFlag: (abi.VFIO_H, "VFIO_MIGRATION_{}"),
    abi.State: (abi.VFIO_H, "VFIO_DEVICE_STATE_{}"),
    abi.PrecopyInfoFlag: (abi.VFIO_H, "VFIO_PRECOPY_INFO_{}"),
    abi.Iommu: (abi.IOMMUFD_H, "IOMMU_{}"),
    abi.MapFlag: (abi.IOMMUFD_H, "IOMMU_IOAS_MAP_{}"),
    abi.HwptFlag: (abi.IOMMUFD_H, "IOMMU_HWPT_ALLOC_{}"),
    abi.OptionId: (abi.IOMMUFD_H, "IOMMU_OPTION_{}"),
    abi.OptionOp: (abi.IOMMUFD_H, "IOMMU_OPTION_OP_{}"),
    abi.VfioIoasOp: (abi.IOMMUFD_H, "IOMMU_VFIO_IOAS_{}"),
    abi.HwCapability: (abi.IOMMUFD_H, "IOMMU_HW_CAP_{}"),
    abi.Seccomp: (abi.SECCOMP_H, "SECCOMP_IOCTL_{}"),
    abi.ProcmapFlag: (abi.FS_H, "PROCMAP_QUERY_VMA_{}"),
}

#: Numbers outside of enums.
NUMBERS = {
    "IOC_TYPE": (abi.VFIO_H, "VFIO_TYPE"),
    "REGION_INFO_CAP_MSIX_MAPPABLE": (abi.VFIO_H, "VFIO_REGION_INFO_CAP_MSIX_MAPPABLE"),
    "NUM_REGIONS": (abi.VFIO_H, "VFIO_PCI_NUM_REGIONS"),
    "NUM_IRQS": (abi.VFIO_H, "VFIO_PCI_NUM_IRQS"),
    "ATTACH_PASID": (abi.VFIO_H, "VFIO_DEVICE_ATTACH_PASID"),
    "DETACH_PASID": (abi.VFIO_H, "VFIO_DEVICE_DETACH_PASID"),
    "BIND_TOKEN": (abi.VFIO_H, "VFIO_DEVICE_BIND_FLAG_TOKEN"),
    "HW_INFO_INPUT_TYPE": (abi.IOMMUFD_H, "IOMMU_HW_INFO_FLAG_INPUT_TYPE"),
    "DIRTY_TRACKING_ENABLE": (abi.IOMMUFD_H, "IOMMU_HWPT_DIRTY_TRACKING_ENABLE"),
    "DIRTY_BITMAP_NO_CLEAR": (abi.IOMMUFD_H, "IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR"),
    "NOTIF_CONTINUE": (abi.SECCOMP_H, "SECCOMP_USER_NOTIF_FLAG_CONTINUE"),
    "ADDFD_SETFD": (abi.SECCOMP_H, "SECCOMP_ADDFD_FLAG_SETFD"),
    "NOTIF_SYNC_WAKE_UP": (abi.SECCOMP_H, "SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP"),
    "SET_MODE_FILTER": (abi.SECCOMP_H, "SECCOMP_SET_MODE_FILTER"),
    "FILTER_NEW_LISTENER": (abi.SECCOMP_H, "SECCOMP_FILTER_FLAG_NEW_LISTENER"),
    "FILTER_WAIT_KILLABLE_RECV": (abi.SECCOMP_H, "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"),
    "RET_USER_NOTIF": (abi.SECCOMP_H, "SECCOMP_RET_USER_NOTIF"),
    "RET_ALLOW": (abi.SECCOMP_H, "SECCOMP_RET_ALLOW"),
    "PROCMAP_QUERY": (abi.FS_H, "PROCMAP_QUERY"),
    "KVM_SET_DEVICE_ATTR": (abi.KVM_H, "KVM_SET_DEVICE_ATTR"),
    "KVM_DEV_VFIO_FILE": (abi.KVM_H, "KVM_DEV_VFIO_FILE"),
    "KVM_DEV_VFIO_FILE_ADD": (abi.KVM_H, "KVM_DEV_VFIO_FILE_ADD"),
    "KVM_DEV_VFIO_FILE_DEL": (abi.KVM_H, "KVM_DEV_VFIO_FILE_DEL"),
}

#: Members that C spells in another way than the rule says.
MEMBERS = {
    "IOMMU_HWPT_ALLOC_FAULT_ID_VALID": "IOMMU_HWPT_FAULT_ID_VALID",
    "VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOV2": "VFIO_DEVICE_FEATURE_MIG_PRECOPY_INFOv2",
}

#: Fields that C spells in another way, by C structure; `reserved` is `__reserved` in all.
FIELDS = {
    "struct vfio_region_info": {"length": "size"},
    "struct seccomp_notif": {
        field: f"data.{field}" for field in ("nr", "arch", "instruction_pointer")
    }
    | {f"arg{number}": f"data.args[{number}]" for number in range(6)},
}

#: The folders of the kernel's own headers, which has all architectures.
FOLDERS = {arch.X86_64: "x86", arch.AARCH64: "arm64"}

ARCHES = pytest.mark.parametrize("machine", FOLDERS, ids=lambda machine: machine.name)


class Claim(NamedTuple):
    """What `abi` says of something in a header, and how to ask C for it."""

    header: str
    what: str
    expression: str
    ours: int


def c_field(layout: Layout, name: str) -> str:  # type: ignore[type-arg]
    if name.startswith("reserved_"):
        return f"__reserved[{name.removeprefix('reserved_')}]"
    if name.startswith("reserved"):
        return f"__{name}"
    return FIELDS.get(layout.c_name, {}).get(name, name)


def claims_of(layout: Layout) -> Iterable[Claim]:  # type: ignore[type-arg]
    """Each field's place, size and sign, and the structure's size."""
    codes = layout.codes.replace("x", "")
    sizes = {"B": 1, "H": 2, "I": 4, "Q": 8}
    for (name, offset), code in zip(layout.offsets().items(), codes, strict=True):
        field = c_field(layout, name)
        what = f"{layout.c_name}, field {field}: "
        value = f"(({layout.c_name} *)0)->{field}"
        yield Claim(
            layout.header,
            what + "offset",
            f"__builtin_offsetof({layout.c_name}, {field})",
            offset,
        )
        yield Claim(layout.header, what + "size", f"sizeof({value})", sizes[code.upper()])
        signed = int(code.islower())
        yield Claim(layout.header, what + "signed", f"(__typeof__({value}))-1 < 0", signed)
    yield Claim(layout.header, f"{layout.c_name}: size", f"sizeof({layout.c_name})", layout.size)


def claims_of_enum(members: type[IntEnum | IntFlag], header: str, rule: str) -> Iterable[Claim]:
    for name, member in members.__members__.items():
        c_name = rule.format(name)
        c_name = MEMBERS.get(c_name, c_name)
        where = abi.IOMMUFD_H if c_name.startswith("IOMMU_") else header
        yield Claim(where, c_name, c_name, int(member))


def claims_of_arch(machine: arch.Arch) -> Iterable[Claim]:
    audit = f"AUDIT_ARCH_{machine.name.upper()}"
    yield Claim("linux/audit.h", audit, audit, machine.audit)
    for name, number in machine._asdict().items():
        if name not in ("name", "audit"):
            yield Claim("asm/unistd_64.h", f"__NR_{name}", f"__NR_{name}", number)


def claims_of_module(module: types.ModuleType) -> tuple[list[Claim], list[str]]:
    """All that a module like `abi` says, and the names in it that nobody can ask C about."""
    found: list[Claim] = []
    left = []
    records = {value.record for value in vars(module).values() if isinstance(value, Layout)}
    for name, value in vars(module).items():
        if isinstance(value, Layout):
            found += claims_of(value)
        elif isinstance(value, type) and value in ENUMS:
            found += claims_of_enum(value, *ENUMS[value])
        elif name in NUMBERS and isinstance(value, int):
            found.append(Claim(*NUMBERS[name], *NUMBERS[name][1:], value))
        elif not _is_machinery(name, value, module) and value not in records:
            left.append(name)
    return found, left


def _is_machinery(name: str, value: object, module: types.ModuleType) -> bool:
    """What is private, imported, the name of a header, or the means of saying it all."""
    return (
        name.startswith("_")
        or isinstance(value, types.ModuleType)
        or name in ("Layout", "R")
        or (name.endswith("_H") and isinstance(value, str))
        or getattr(value, "__module__", module.__name__) != module.__name__
    )


class Headers:
    """The kernel's headers and a compiler."""

    def __init__(self, root: Path, work: Path) -> None:
        self.root = root
        self.work = work

    def wrong(self, machine: arch.Arch, claims: Iterable[Claim]) -> list[str]:
        """What C says otherwise of, each with both numbers."""
        by_header: dict[str, list[Claim]] = {}
        for claim in claims:
            by_header.setdefault(claim.header, []).append(claim)
        return [
            f"{header}: {claim.what}: {claim.ours:#x} here, {theirs:#x} in the header"
            for header, group in by_header.items()
            for claim, theirs in zip(group, self._values(machine, header, group), strict=True)
            if claim.ours != theirs
        ]

    def _values(self, machine: arch.Arch, header: str, claims: list[Claim]) -> list[int]:
        lines = [f'printf("%llu\\n", (unsigned long long)({c.expression}));' for c in claims]
        source = self.work / "claims.c"
        source.write_text(
            # seccomp.h's requests need _IO, which it does not include.
            f"#include <linux/ioctl.h>\n#include <{header}>\nint printf(const char *, ...);\n"
            "int main(void)\n{\n" + "\n".join(lines) + "\nreturn 0;\n}\n"
        )
        program = source.with_suffix("")
        folders = (self.root / "usr/lib/linux/uapi" / FOLDERS[machine], self.root / "usr/include")
        arguments = [argument for folder in folders for argument in ("-isystem", str(folder))]
        compiled = subprocess.run(
            ["cc", "-nostdinc", "-w", *arguments, "-o", program, source],
            capture_output=True,
            text=True,
            check=False,
        )
        assert compiled.returncode == 0, f"<{header}> does not have it all:\n{compiled.stderr}"
        output = subprocess.run([program], capture_output=True, text=True, check=True).stdout
        return [int(line) for line in output.split()]


@pytest.fixture
def headers(header_tree: Path, tmp_path: Path) -> Headers:
    return Headers(header_tree, tmp_path)


@ARCHES
def test_every_number_and_structure_is_the_kernels(headers: Headers, machine: arch.Arch) -> None:
    assert headers.wrong(machine, claims_of_module(abi)[0]) == []


@ARCHES
def test_every_system_call_has_the_number_that_the_processor_gives_it(
    headers: Headers, machine: arch.Arch
) -> None:
    assert headers.wrong(machine, claims_of_arch(machine)) == []


def test_nothing_in_the_abi_escapes_the_comparison() -> None:
    """Add a constant, an enum or a record without a layout, and this asks for its C name."""
    assert claims_of_module(abi)[1] == []


@pytest.mark.parametrize("value", [3, IntEnum("Names", {"ONE": 1}), NamedTuple("Record", [])])
def test_an_addition_that_cannot_be_compared_is_noticed(value: object) -> None:
    module = types.ModuleType("copy")
    module.FRESH = value  # type: ignore[attr-defined]
    if isinstance(value, type):
        value.__module__ = "copy"
    assert claims_of_module(module)[1] == ["FRESH"]


@pytest.mark.parametrize(
    ("codes", "complaints"),
    [
        ("IIIIQI", ["struct vfio_region_info, field offset: size: 0x4 here, 0x8 in the header"]),
        ("IIiIQQ", ["struct vfio_region_info, field index: signed: 0x1 here, 0x0 in the header"]),
        (
            "IIIQIQ",
            [
                "struct vfio_region_info, field cap_offset: size: 0x8 here, 0x4 in the header",
                "struct vfio_region_info, field size: offset: 0x14 here, 0x10 in the header",
                "struct vfio_region_info, field size: size: 0x4 here, 0x8 in the header",
            ],
        ),
    ],
)
def test_a_wrong_structure_is_named_with_its_header_and_field(
    headers: Headers, codes: str, complaints: list[str]
) -> None:
    wrong = Layout(abi.RegionInfo, "struct vfio_region_info", abi.VFIO_H, codes)
    found = headers.wrong(arch.X86_64, claims_of(wrong))
    assert set(found) >= {f"linux/vfio.h: {complaint}" for complaint in complaints}


def test_a_structure_that_has_more_fields_than_ours_is_named(headers: Headers) -> None:
    short = Layout(abi.HotReset, "struct vfio_irq_info", abi.VFIO_H, "IIxxxxI")
    assert headers.wrong(arch.X86_64, claims_of(short)) == []
    shorter = Layout(abi.FeatureHeader, "struct vfio_irq_info", abi.VFIO_H, "II")
    assert headers.wrong(arch.X86_64, claims_of(shorter)) == [
        "linux/vfio.h: struct vfio_irq_info: size: 0x8 here, 0x10 in the header"
    ]


def test_a_wrong_number_is_named_with_its_header(headers: Headers) -> None:
    claim = next(iter(claims_of_enum(abi.State, *ENUMS[abi.State])))
    assert headers.wrong(arch.X86_64, [claim._replace(ours=9)]) == [
        "linux/vfio.h: VFIO_DEVICE_STATE_ERROR: 0x9 here, 0x0 in the header"
    ]


def test_a_name_that_the_header_lacks_is_told_with_the_header(headers: Headers) -> None:
    with pytest.raises(AssertionError, match=r"<linux/vfio\.h>(?s:.*)VFIO_NO_SUCH"):
        headers.wrong(arch.X86_64, [Claim(abi.VFIO_H, "", "VFIO_NO_SUCH", 1)])


def test_this_processor_is_one_that_we_know_and_any_other_is_told_by_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert arch.current().name == os.uname().machine
    other = types.SimpleNamespace(machine="riscv64")
    monkeypatch.setattr(os, "uname", lambda: other)
    with pytest.raises(OSError, match="x86_64 and aarch64, and this is riscv64"):
        arch.current()
