"""What is known about QEMU's trace events: which to switch on, which flood, which were renamed."""

import fnmatch
import functools
import re
from collections.abc import Callable, Collection, Iterable, Mapping

LOW_VOLUME: tuple[str, ...] = (
    "*switchover*",
    "loadvm_process_command",
    "migrate_error",
    "migrate_send_rp_message",
    "migrate_set_state",
    "migrate_transferred",
    "migration_thread_low_pending",
    "vmstate_downtime_*",
)
"""Patterns for following a migration and its downtime without lengthening either.

Few on purpose: QEMU compares each with all its event names at start, which costs 0.4 ms a pattern
(measured, 11.1.3). A pattern that no event of a build matches is no error; an exact name that a
build lacks makes QEMU print a warning, so give it only those that mean something (`select`).
"""

LOW_VOLUME_VFIO: tuple[str, ...] = (
    "vfio_load_bufs_thread_*",
    "vfio_load_device_config_state_*",
    "vfio_migration_*",
    "vfio_save_cleanup",
    "vfio_save_complete_precopy*",
    "vfio_save_setup",
    "vfio_send_init_data_flag",
    "vfio_vmstate_change*",
)
"""The same for a VM that has VFIO devices."""

FLOODING: tuple[str, ...] = (
    "get_queued_page*",
    "iommufd_backend_*map_*dma",
    "iommufd_backend_get_dirty_bitmap",
    "memory_region_*_read",
    "memory_region_*_write",
    "migrate_pending_*",
    "migration_bitmap_*",
    "migration_transferred_bytes",
    "migration_update_rates",
    "object_*dynamic_cast*",
    "pci_cfg_*",
    "qemu_mutex_*",
    "qemu_savevm_query_pending",
    "ram_load_loop",
    "ram_save_page",
    "ram_save_queue_pages",
    "vfio_container_query_dirty_bitmap",
    "vfio_get_dirty_bitmap",
    "vfio_listener_region_*",
    "vfio_load_state_device_data",
    "vfio_pci_read_config",
    "vfio_pci_write_config",
    "vfio_query_*_size",
    "vfio_region_*",
    "vfio_save_block",
    "vfio_save_iterate",
    "vfio_state_pending*",
    "vmstate_load_state*",
    "vmstate_n_elems",
    "vmstate_save_state*",
    "vmstate_subsection_*",
)
"""Events that come for each page, pass, field or lock.

Measured on an empty 256 MiB VM: 65,000 lines of migration_transferred_bytes or ram_load_loop,
2.9 us each, turn a migration of 25 ms into one of 190 ms.
"""

RENAMES: Mapping[str, str] = {
    "iommufd_cdev_attach_ioas_hwpt": "iommufd_cdev_pasid_attach_ioas_hwpt",
    "iommufd_cdev_detach_ioas_hwpt": "iommufd_cdev_pasid_detach_ioas_hwpt",
    "migrate_pending_estimate": "qemu_savevm_query_pending",
    "migrate_pending_exact": "qemu_savevm_query_pending",
    "ram_block_discard_range": "ram_block_discard_shared_range",
    "vfio_attach_device": "vfio_device_attach",
    "vfio_detach_device": "vfio_device_detach",
    "vfio_get_dev_region": "vfio_device_get_region_info_type",
    "vfio_get_dirty_bitmap": "vfio_container_query_dirty_bitmap",
    "vfio_intx_eoi": "vfio_pci_intx_eoi",
    "vfio_populate_device_config": "vfio_pci_populate_device_config",
    "vfio_put_base_device": "vfio_device_put",
    "vfio_reset_handler": "vfio_device_reset_handler",
    "vfio_state_pending_estimate": "vfio_state_pending",
    "vfio_state_pending_exact": "vfio_state_pending",
    "vmstate_load_state_end": "vmstate_load_state_success",
    "vmstate_save_state_pre_save_res": "vmstate_save_state_pre_save_success",
}
"""Name up to 10.0 -> name in 11.1, for events that say the same thing.

`loadvm_approve_switchover` is not among them: its 11.1 legacy form has a name of its own, and
the mechanism behind the old name changed, which a comparison should show.
"""

RENUMBERED: Mapping[str, frozenset[str]] = {
    "vfio_migration_state_notifier": frozenset({"state"}),
}
"""Arguments whose numbers changed their meaning: done is 1 and failed 2 in 10.0, 2 and 3 in 11.1.

10.1 is where the timestamps changed too, so those tell whether two logs can be compared in this.
"""

MEASURED: Mapping[str, frozenset[str]] = {
    "iommufd_backend_connect": frozenset({"fd"}),
    "iommufd_backend_disconnect": frozenset({"fd"}),
    "iommufd_cdev_connect_and_bind": frozenset({"iommufd", "fd"}),
    "migrate_transferred": frozenset(
        {"transferred", "time_spent", "bandwidth", "switchover_bw", "max_size"}
    ),
    "migration_bitmap_sync_end": frozenset({"dirty_pages"}),
    "migration_thread_low_pending": frozenset({"pending"}),
    "qemu_savevm_query_pending": frozenset(
        {"exact", "size", "precopy", "stopcopy", "postcopy", "total"}
    ),
    "vfio_state_pending": frozenset({"exact", "precopy", "postcopy", "stopcopy", "init", "dirty"}),
    "vmstate_downtime_load": frozenset({"downtime"}),
    "vmstate_downtime_save": frozenset({"downtime"}),
}
"""Arguments that differ from run to run of the same migration: times, sizes, descriptors."""


@functools.lru_cache(maxsize=1024)
def _matcher(pattern: str) -> Callable[[str], object]:
    return re.compile(fnmatch.translate(pattern.replace("[", "[[]"))).match


def matches(name: str, pattern: str) -> bool:
    """Whether QEMU's pattern (`*` and `?` only) means this event."""
    return bool(_matcher(pattern)(name))


def select(patterns: Iterable[str], known: Collection[str]) -> list[str]:
    """The events of a build that the patterns mean, sorted."""
    found: set[str] = set()
    for pattern in patterns:
        found.update(filter(_matcher(pattern), known))
    return sorted(found)


def flooding(names: Iterable[str]) -> list[str]:
    """Those of the names that flood, sorted."""
    return sorted(filter(_floods, set(names)))


@functools.cache
def _floods(name: str) -> bool:
    return any(matches(name, pattern) for pattern in FLOODING)
