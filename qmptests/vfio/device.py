"""One device: its answers to the calls on its descriptors, as Linux's vfio-pci gives them. Pure."""

import errno
from collections.abc import Callable

from qmptests.vfio import abi
from qmptests.vfio.abi import State
from qmptests.vfio.calls import Answer, Call, Caller, Memory, Unknown
from qmptests.vfio.features import FEATURES, Features, put
from qmptests.vfio.interrupts import Interrupts
from qmptests.vfio.iommufd import Iommufd
from qmptests.vfio.pci import Bars, ConfigSpace
from qmptests.vfio.regions import REGION_SHIFT, Regions
from qmptests.vfio.spec import IOMMU_TRACKING, Spec

#: Bytes of a UUID.
_UUID = 16

_FLAGS = int(abi.DeviceFlag.PCI | abi.DeviceFlag.RESET)
_Handler = Callable[[Call, Caller, float], Answer]


class Device:
    """A device, from its first call on.

    `bound_at`: when QEMU bound it to its iommufd, None before that; `devid`: its number there.
    """

    def __init__(self, spec: Spec, iommufd: Iommufd) -> None:
        self.spec = spec
        self.name = spec.name
        self.config = ConfigSpace(spec)
        self.bars = Bars(spec)
        self.regions = Regions(spec, self.config, self.bars)
        self.interrupts = Interrupts(spec)
        self.features = features = Features(spec)
        self.migration = features.migration
        self.problems = features.problems
        self.iommufd = iommufd
        #: Has the registers in BARs as they are after a reset.
        self.clear_bars: Callable[[], None] = lambda: None
        self.bound_at: float | None = None
        self.devid = 0
        self._sized = True
        self._latency = dict(spec.latency)
        self._handlers: dict[str, _Handler] = {
            "bind": self._bind,
            "attach": self._attach,
            "detach": self._detach,
            "device-info": self._device_info,
            "region-info": self._region_info,
            "irq-info": self._irq_info,
            "set-irqs": self._set_irqs,
            "reset": self._reset,
            "hot-reset-info": self._no_hot_reset,
            "hot-reset": self._no_hot_reset,
            "precopy-info": features.precopy_info,
            "read": features.read,
            "write": features.write,
            "probe": features.probe,
            "feature": features.probe,
            **dict.fromkeys(FEATURES, features.answer),
        }

    @property
    def state(self) -> State:
        """Its migration state."""
        return self.features.state

    @property
    def moved(self) -> int:
        """Bytes of migration data that were read or written so far."""
        return self.migration.moved

    def heard(self, call: Call) -> Call:
        """The call, with what only those before it tell of it.

        QEMU asks for `data-size` before each `precopy-info` but one: the final one, at the
        switchover, which looks for a REINIT alone (seen with QEMU 11.1, whose words "final" are).
        """
        if call.name == "data-size":
            self._sized = True
        elif call.name == "precopy-info":
            if not self._sized:
                return call._replace(detail=(*call.detail, ("asked", "final")))
            self._sized = False
        return call

    def handle(self, call: Call, memory: Caller, now: float) -> Answer:
        """The answer; raises `calls.Unknown`."""
        handler = self._handlers.get(call.name)
        if handler is None:
            raise Unknown(f"{self.name}: no device is asked for '{call.name}'")
        if call.errno:
            return Answer(errno=call.errno)
        if self.bound_at is None and call.name != "bind":
            return Answer(errno=errno.EINVAL)
        try:
            answer = handler(call, memory, now)
        except OSError as error:
            return Answer(errno=error.errno or errno.EIO)
        if self._latency and (delay := self._delay(call)):
            return answer._replace(delay_s=answer.delay_s + delay)
        return answer

    def config_write(self, call: Call) -> bytes:
        """What then stands in configuration space where QEMU wrote; it may reset the device."""
        if self.config.is_reset(call.address, call.argument):
            self._restart()
        written = self.config.write(call.address, call.argument)
        self.interrupts.forbid_intx(self.config.forbids_intx)
        return written

    def wrote(self, iova: int, length: int) -> None:
        """It has written to the guest's memory: for those who track which pages are dirty."""
        self.features.dirty_pages.record(iova, length)
        self.iommufd.record(self.devid, iova, length)

    def fail(self) -> None:
        """Go to ERROR, as a device does whose firmware has died."""
        self.features.fail()

    def _delay(self, call: Call) -> float:
        if call.name == "set-state" and call.detail:
            word = f"set-state:{call.detail[0][1]}"
            if word in self._latency:
                return self._latency[word]
        return self._latency.get(call.name, 0.0)

    def _bind(self, call: Call, memory: Caller, now: float) -> Answer:
        """A token is for a virtual function whose physical one asks for it: not for this device."""
        asked: abi.BindIommufd = call.argument
        if asked.iommufd < 0 or asked.flags & ~abi.BIND_TOKEN or self.bound_at is not None:
            return Answer(errno=errno.EINVAL)
        if asked.flags:
            memory.read(asked.token_uuid_ptr, _UUID)
            return Answer(errno=errno.EINVAL)
        if not memory.is_iommufd(asked.iommufd):
            return Answer(errno=errno.EBADFD)
        tracking = self.spec.dirty_tracking == IOMMU_TRACKING
        self.devid = self.iommufd.bind(self.name, dirty_tracking=tracking)
        self.bound_at = now
        return put(call, memory, abi.BIND_IOMMUFD, asked._replace(out_devid=self.devid))

    def _attach(self, call: Call, memory: Memory, _: float) -> Answer:
        """With a PASID it fails, as for a page table that is made for none."""
        asked: abi.AttachIommufdPt = call.argument
        if asked.flags & ~abi.ATTACH_PASID or (
            asked.flags and call.size < abi.ATTACH_IOMMUFD_PT.size
        ):
            return Answer(errno=errno.EINVAL)
        if asked.flags:
            known = asked.pt_id in self.iommufd.objects
            return Answer(errno=errno.EINVAL if known else errno.ENOENT)
        pt_id = self.iommufd.attach(self.devid, asked.pt_id)
        return put(call, memory, abi.ATTACH_IOMMUFD_PT, asked._replace(pt_id=pt_id))

    def _detach(self, call: Call, _: Memory, __: float) -> Answer:
        asked: abi.DetachIommufdPt = call.argument
        if asked.flags & ~abi.DETACH_PASID:
            return Answer(errno=errno.EINVAL)
        if asked.flags:  # from a PASID, none of which is attached
            return Answer(errno=errno.EINVAL if call.size < abi.DETACH_IOMMUFD_PT.size else 0)
        self.iommufd.detach(self.devid)
        return Answer()

    def _device_info(self, call: Call, memory: Memory, _: float) -> Answer:
        info = abi.DeviceInfo(call.size, _FLAGS, abi.NUM_REGIONS, abi.NUM_IRQS)
        return put(call, memory, abi.DEVICE_INFO, info)

    def _region_info(self, call: Call, memory: Memory, _: float) -> Answer:
        index = call.argument.index_
        if index > abi.Region.CONFIG:  # there is no VGA
            return Answer(errno=errno.EINVAL)
        flags, length = self.bars.region_info(index)
        asked: abi.RegionInfo = call.argument
        info = asked._replace(flags=flags, length=length, offset=index << REGION_SHIFT)
        if index == self.bars.msix_mappable:
            info = _with_capability(call, memory, info)
        return put(call, memory, abi.REGION_INFO, info)

    def _irq_info(self, call: Call, memory: Memory, _: float) -> Answer:
        index = call.argument.index_
        found = self.interrupts.info(index)
        if found is None:
            return Answer(errno=errno.EINVAL)
        return put(call, memory, abi.IRQ_INFO, abi.IrqInfo(call.size, found[0], index, found[1]))

    def _set_irqs(self, call: Call, caller: Caller, _: float) -> Answer:
        size = self.interrupts.data_size(call.argument)
        data = caller.read(call.payload + abi.IRQ_SET.size, size) if size else b""
        return self.interrupts.set(call.argument, data, caller.descriptor)

    def _reset(self, _: Call, __: Memory, ___: float) -> Answer:
        self._restart()
        return Answer()

    def _restart(self) -> None:
        """Configuration space and interrupts stay as they are: Linux saves and restores them."""
        self.features.reset()
        self.interrupts.reset()
        self.clear_bars()

    def _no_hot_reset(self, call: Call, _: Memory, __: float) -> Answer:
        """Its bus can't be reset. QEMU only asks after VFIO_DEVICE_RESET has failed.

        Groups are none that a device with an iommufd has to name.
        """
        unsound = call.name == "hot-reset" and (call.argument.flags or call.argument.count_)
        return Answer(errno=errno.EINVAL if unsound else errno.ENODEV)


def _with_capability(call: Call, memory: Memory, info: abi.RegionInfo) -> abi.RegionInfo:
    """MSIX_MAPPABLE behind the structure, or how long a structure would be that has room for it
    (vfio_get_region_info()).
    """
    size = abi.REGION_INFO.size
    whole = size + abi.INFO_CAP.size
    info = info._replace(flags=info.flags | abi.RegionFlag.CAPS)
    if call.size < whole:
        return info._replace(argsz=whole, cap_offset=0)
    capability = abi.InfoCap(abi.REGION_INFO_CAP_MSIX_MAPPABLE, 1, 0)
    memory.write(call.address + size, abi.INFO_CAP.pack(capability))
    return info._replace(cap_offset=size)
