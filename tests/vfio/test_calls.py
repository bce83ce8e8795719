"""What QEMU asks becomes a call with a name, whatever its age, and as the kernel would see it."""

import errno
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmptests.vfio import abi, descriptors
from qmptests.vfio.abi import Feature, FeatureFlag, Iommu, Layout, State, Vfio
from qmptests.vfio.calls import Call, Unknown, decode, decode_kvm, state_of, state_word
from qmptests.vfio.requests import FEATURES, REQUESTS

BASE = 0x7F00_0000_0000

ALL = [(role, request) for role, known in REQUESTS.items() for request in known]
EVERY_REQUEST = pytest.mark.parametrize(
    ("role", "request_"), ALL, ids=[REQUESTS[role][number].name for role, number in ALL]
)


class Bytes:
    """Memory that begins at BASE and ends where its bytes end; what is beyond is not mapped."""

    def __init__(self, data: bytes) -> None:
        self.data = bytearray(data)
        self.reads = 0

    def read(self, address: int, length: int) -> bytes:
        self.reads += 1
        start = address - BASE
        if start < 0 or start + length > len(self.data):
            raise OSError(errno.EFAULT, "not mapped")
        return bytes(self.data[start : start + length])

    def write(self, address: int, data: bytes) -> None:
        raise AssertionError(f"decoding writes {len(data)} bytes at {address:#x}")


def ask(role: str, request: int, data: bytes, around: bytes = b"\xee" * 64) -> Call:
    """The call, the structure lying among other things of QEMU's."""
    return decode(role, request, BASE, Bytes(data + around))


def feature(flags: int, payload: bytes = b"", size: int | None = None) -> bytes:
    size = 8 + len(payload) if size is None else size
    return abi.FEATURE_HEADER.pack(abi.FeatureHeader(size, flags)) + payload


def ask_feature(flags: int, payload: bytes = b"", size: int | None = None) -> Call:
    return ask("device", Vfio.DEVICE_FEATURE, feature(flags, payload, size))


@st.composite
def records(draw: st.DrawFn, layout: Layout[Any], size: int | None = None) -> Any:
    """Any record; with `size`, one that says that this is its size."""
    ranges = {code: (0, 2 ** (8 * struct.calcsize("<" + code)) - 1) for code in "BHIQ"}
    ranges["i"] = (-(2**31), 2**31 - 1)
    codes = layout.codes.replace("x", "")
    values = [draw(st.integers(*ranges[code])) for code in codes]
    if size is not None:
        values[0] = size
    return layout.record(*values)


@EVERY_REQUEST
@given(data=st.data())
def test_a_structure_arrives_as_it_was_sent(role: str, request_: int, data: st.DataObject) -> None:
    known = REQUESTS[role][request_]
    layout = known.layout
    sent = data.draw(records(layout, layout.size))
    call = ask(role, request_, layout.pack(sent))
    assert call[:6] == (known.name, BASE, sent, BASE, layout.size, 0)
    assert call.errno == 0
    assert dict(call.detail) == dict(known.show(sent))


@pytest.mark.parametrize("number", FEATURES, ids=lambda number: FEATURES[number].name)
@given(data=st.data())
def test_a_feature_arrives_as_it_was_sent(number: int, data: st.DataObject) -> None:
    layout = FEATURES[number].layout
    sent = data.draw(records(layout)) if layout else None
    call = ask_feature(number | FeatureFlag.GET, layout.pack(sent) if layout else b"")
    size = layout.size if layout else 0
    assert call[:4] == (FEATURES[number].name, BASE, sent, BASE + 8)
    assert (call.size, call.flags, call.errno) == (8 + size, FeatureFlag.GET, 0)


#: The sizes that Linux 7.3 asks for at least.
MINIMA = {
    "bind": 16,
    "attach": 12,
    "detach": 8,
    "device-info": 16,
    "region-info": 32,
    "irq-info": 16,
    "set-irqs": 20,
    "hot-reset-info": 12,
    "hot-reset": 12,
    "precopy-info": 24,
    "destroy": 8,
    "ioas-alloc": 12,
    "ioas-iova-ranges": 32,
    "ioas-allow-iovas": 24,
    "ioas-copy": 40,
    "iommu-option": 24,
    "vfio-ioas": 12,
    "hwpt-invalidate": 32,
    "viommu-alloc": 24,
    "vdevice-alloc": 24,
    "veventq-alloc": 28,
    "hw-queue-alloc": 40,
    "ioas-map": 40,
    "ioas-map-file": 40,
    "ioas-unmap": 24,
    "ioas-change-process": 8,
    "hwpt-alloc": 24,
    "hw-info": 32,
    "set-dirty-tracking": 16,
    "dirty-bitmap": 48,
}


@EVERY_REQUEST
def test_an_older_callers_structure_is_filled_up_with_zeros_down_to_the_kernels_minimum(
    role: str, request_: int
) -> None:
    known = REQUESTS[role][request_]
    minimum = MINIMA[known.name]
    old = minimum.to_bytes(4, "little") + bytes(minimum - 4)
    call = ask(role, request_, old)
    assert call.argument == known.layout.unpack(old)
    assert (call.size, call.errno) == (minimum, 0)
    short = ask(role, request_, (minimum - 1).to_bytes(4, "little") + bytes(minimum - 4))
    assert (short.name, short.argument, short.errno) == (known.name, None, errno.EINVAL)
    assert short.size == minimum - 1


@EVERY_REQUEST
def test_a_newer_callers_structure_is_one_the_kernel_would_take(role: str, request_: int) -> None:
    """iommufd and BIND refuse what they don't know unless it is zero; the others don't look."""
    layout = REQUESTS[role][request_].layout
    newer = (layout.size + 8).to_bytes(4, "little") + bytes(layout.size - 4)
    assert ask(role, request_, newer + bytes(8)).errno == 0
    strict = role == "iommufd" or request_ == Vfio.DEVICE_BIND_IOMMUFD
    call = ask(role, request_, newer + bytes(7) + b"\x01")
    assert call.errno == (errno.E2BIG if strict else 0)
    assert (call.argument is None) == strict


@EVERY_REQUEST
def test_a_structure_may_lie_at_the_end_of_memory(role: str, request_: int) -> None:
    minimum = MINIMA[REQUESTS[role][request_].name]
    data = minimum.to_bytes(4, "little") + bytes(minimum - 4)
    assert ask(role, request_, data, b"").errno == 0
    assert ask(role, request_, data[:-1], b"").errno == errno.EFAULT
    gone = ask(role, request_, b"", b"")
    assert (gone.argument, gone.errno) == (None, errno.EFAULT)


def test_a_feature_may_lie_at_the_end_of_memory() -> None:
    data = feature(Feature.MIG_DEVICE_STATE | FeatureFlag.SET, State.RUNNING.to_bytes(8, "little"))
    assert ask("device", Vfio.DEVICE_FEATURE, data, b"").argument == (State.RUNNING, 0)
    assert ask("device", Vfio.DEVICE_FEATURE, data[:-1], b"").errno == errno.EFAULT
    assert ask("device", Vfio.DEVICE_FEATURE, data[:7], b"").errno == errno.EFAULT


def test_an_error_of_memory_that_is_no_fault_is_not_the_callers() -> None:
    class Broken(Bytes):
        def read(self, address: int, length: int) -> bytes:
            raise OSError(errno.EIO, f"broken: {length} bytes at {address:#x}")

    for request in (Vfio.DEVICE_GET_INFO, Vfio.DEVICE_FEATURE):
        with pytest.raises(OSError, match="broken"):
            decode("device", request, BASE, Broken(b""))


@pytest.mark.parametrize("state", State)
def test_a_state_is_set_by_its_word(state: State) -> None:
    payload = abi.FEATURE_MIG_STATE.pack(abi.FeatureMigState(state, -1))
    call = ask_feature(Feature.MIG_DEVICE_STATE | FeatureFlag.SET, payload)
    assert call.name == "set-state"
    assert call.argument == (state, -1)
    assert call.detail == (("state", state_word(state)),)
    assert state_of(state_word(state)) is state
    assert ask_feature(Feature.MIG_DEVICE_STATE | FeatureFlag.GET, payload).name == "get-state"


def test_states_are_spelt_as_in_qapi() -> None:
    words = "error stop running stop-copy resuming running-p2p pre-copy pre-copy-p2p"
    assert [state_word(state) for state in State] == words.split()
    assert state_word(99) == "99"
    with pytest.raises(ValueError, match="'precopy' is none of the states error, stop, running"):
        state_of("precopy")


def test_a_feature_that_is_too_short_has_no_argument_and_is_the_devices_to_refuse() -> None:
    call = ask_feature(Feature.MIG_DATA_SIZE | FeatureFlag.GET, bytes(8), size=15)
    assert (call.name, call.argument, call.errno) == ("data-size", None, 0)
    call = ask_feature(Feature.MIG_DATA_SIZE | FeatureFlag.GET, bytes(8), size=7)
    assert (call.name, call.argument, call.errno) == ("feature", None, errno.EINVAL)


def test_a_probe_names_the_feature_and_needs_no_structure() -> None:
    call = ask_feature(Feature.DMA_LOGGING_START | FeatureFlag.PROBE | FeatureFlag.SET)
    assert call.name == "probe"
    assert call.argument == Feature.DMA_LOGGING_START
    assert call.flags == FeatureFlag.PROBE | FeatureFlag.SET
    assert call.detail == (("feature", "dma-logging-start"),)


def test_a_feature_that_nobody_knows_is_known_by_its_number() -> None:
    call = ask_feature(77 | FeatureFlag.GET, bytes(8))
    assert call[:4] == ("feature", BASE, 77, BASE + 8)
    assert call.detail == (("feature", 77),)
    assert ask_feature(77 | FeatureFlag.PROBE).name == "probe"


def test_flags_that_the_kernel_does_not_know_reach_the_device() -> None:
    assert ask_feature(Feature.MIGRATION | 1 << 31, bytes(8)).flags == 1 << 31


def test_an_interrupts_call_is_told_in_words() -> None:
    flags = abi.IrqSetFlag.DATA_EVENTFD | abi.IrqSetFlag.ACTION_TRIGGER
    sent = abi.IrqSet(36, flags, abi.Irq.MSIX, 0, 4)
    call = ask("device", Vfio.DEVICE_SET_IRQS, abi.IRQ_SET.pack(sent))
    assert call.detail == (("irq", "msix"), ("action", "trigger"), ("start", 0), ("count", 4))
    odd = abi.IrqSet(20, abi.IrqSetFlag.DATA_NONE, 9, 0, 0)
    call = ask("device", Vfio.DEVICE_SET_IRQS, abi.IRQ_SET.pack(odd))
    assert call.detail[:2] == (("irq", 9), ("action", 0))


def test_a_reset_has_nothing_to_read() -> None:
    assert decode("device", Vfio.DEVICE_RESET, 0, Bytes(b"")) == Call("reset")


@pytest.mark.parametrize(
    ("role", "request_", "payload"),
    [
        ("data", Vfio.MIG_GET_PRECOPY_INFO, abi.PRECOPY_INFO.pack(abi.PrecopyInfo(24, 0, 0, 0))),
        ("device", Vfio.DEVICE_FEATURE, feature(Feature.MIG_DATA_SIZE | FeatureFlag.GET, bytes(8))),
        ("iommufd", Iommu.IOAS_MAP, abi.IOAS_MAP.pack(abi.IoasMap(40, 7, 1, 0, 1, 2, 3))),
    ],
)
def test_memory_is_read_once(role: str, request_: int, payload: bytes) -> None:
    memory = Bytes(payload + bytes(64))
    decode(role, request_, BASE, memory)
    assert memory.reads == 1


@pytest.mark.parametrize(
    ("role", "request_", "words"),
    [
        ("device", 0x3B74, "a device was asked 0x3b74, VFIO_DEVICE_IOEVENTFD, which the emulation"),
        ("data", Iommu.IOAS_MAP, "descriptor was asked 0x3b85, ioas-map, .* on an iommufd"),
        ("iommufd", Vfio.DEVICE_FEATURE, "0x3b75, VFIO_DEVICE_FEATURE, which .* on a device"),
        ("data", Vfio.DEVICE_RESET, "0x3b6f, VFIO_DEVICE_RESET, which is a request on a device"),
        ("iommufd", 0x3BFF, "an iommufd was asked 0x3bff, number 255 of VFIO's and iommufd's"),
    ],
)
def test_an_unknown_request_is_named(role: str, request_: int, words: str) -> None:
    with pytest.raises(Unknown, match=words):
        ask(role, request_, bytes(64))


def kvm(group: int, attr: int, number: int) -> Call | None:
    sent = abi.KvmDeviceAttr(0, group, attr, BASE + abi.KVM_DEVICE_ATTR.size)
    data = abi.KVM_DEVICE_ATTR.pack(sent) + number.to_bytes(4, "little", signed=True)
    return decode_kvm(BASE, Bytes(data))


@pytest.mark.parametrize(("attr", "name"), [(1, "kvm-file-add"), (2, "kvm-file-del")])
def test_a_device_of_ours_is_added_to_kvm_and_taken_away(attr: int, name: str) -> None:
    ours = descriptors.device(1)
    call = kvm(abi.KVM_DEV_VFIO_FILE, attr, ours)
    assert call is not None
    assert (call.name, call.detail) == (name, (("fd", ours),))


@pytest.mark.parametrize(
    ("group", "attr", "number"),
    [
        (abi.KVM_DEV_VFIO_FILE, 3, descriptors.device(0)),
        (2, abi.KVM_DEV_VFIO_FILE_ADD, descriptors.device(0)),
    ],
)
def test_anything_else_that_is_set_in_kvm_is_the_kernels(
    group: int, attr: int, number: int
) -> None:
    assert kvm(group, attr, number) is None


def test_what_kvm_is_given_may_not_be_mapped() -> None:
    assert decode_kvm(BASE, Bytes(b"")) is None
