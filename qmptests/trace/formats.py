"""What the arguments of an event are called, and how to read them from its text.

The log backend prints an event's arguments through a printf format that may change from version
to version. The table below has those of the events about migration and its devices, in QEMU
7.2 to 11.1, with one set of argument names for all of them. For other events, `key=value` pairs
and a leading `(LABEL)` are read.
"""

import functools
import re
from collections.abc import Callable, Mapping

Value = int | str

LABEL = "label"
"""The argument name of a device label, `(vf0)`: the id in 11.1, `VFIO_FD4` in 10.0."""

# EVENT(ARGUMENT, ...) FORMAT, the newest format of an event first. Formats are as documented in
# each release's trace-events files, with PRIu64 and the like written as %lu. An event that has
# the same text in all versions stands once.
_TABLE = """
iommufd_backend_connect(fd, owned, users) fd=%d owned=%d users=%d
iommufd_backend_disconnect(fd, users) fd=%d users=%d
iommufd_cdev_connect_and_bind(iommufd, device, fd, devid)\
  [iommufd=%d] Successfully bound device %s (fd=%d): output devid=%d
loadvm_approve_switchover(approver) Approver %s
loadvm_approve_switchover(switchover_ack_pending_num) Switchover ack pending num=%u
loadvm_approve_switchover_legacy(approver, switchover_ack_pending_num)\
 Approver %s, switchover_ack_pending_num_legacy %u
loadvm_process_command(com, len) com=%s len=%d
loadvm_process_command_ping(value) 0x%x
loadvm_state_switchover_ack_needed(switchover_ack_pending_num) Switchover ack pending num=%u
migrate_error(error) error=%s
migrate_pending_estimate(size, precopy, postcopy)\
 estimate pending size %lu (pre = %lu post=%lu)
migrate_pending_exact(size, precopy, postcopy) exact pending size %lu (pre = %lu post=%lu)
migrate_send_rp_message(type, len) %d: len %d
migrate_set_state(new_state) new state %s
migrate_transferred(transferred, time_spent, bandwidth, switchover_bw, max_size)\
 transferred %lu time_spent %lu bandwidth %lu switchover_bw %lu max_size %ld
migrate_transferred(transferred, time_spent, bandwidth, max_size)\
 transferred %lu time_spent %lu bandwidth %lu max_size %ld
migration_bitmap_sync_end(dirty_pages) dirty_pages %lu
migration_block_activation(action) %s
migration_call_notifiers(type) type=%d
migration_request_switchover_ack_legacy(requester, switchover_ack_pending_num)\
 Requester %s, switchover_ack_pending_num_legacy %u
migration_thread_low_pending(pending) %lu
process_incoming_migration_co_end(ret, postcopy_state) ret=%d postcopy-state=%d
process_incoming_migration_co_end(ret) ret=%d
qemu_savevm_query_pending(exact, final, precopy, stopcopy, postcopy, total,\
 switchover_ack_pending, switchover_ack_pending_num) exact=%d, final=%d, precopy=%lu,\
 stopcopy=%lu, postcopy=%lu, total=%lu, collected switchover ack pending=%u,\
 total switchover ack pending=%u
runstate_set(current, current_name, new, new_name) current_run_state %d (%s) new_state %d (%s)
savevm_send_ping(value) 0x%x
source_return_path_thread_pong(value) 0x%x
source_return_path_thread_shut(value) 0x%x
source_return_path_thread_switchover_acked(switchover_ack_pending_num)\
 switchover_ack_pending_num %u
vfio_attach_device(label, group)  (%s) group %d
vfio_device_attach(label, group)  (%s) group %d
vfio_load_bufs_thread_end(label)  (%s)
vfio_load_bufs_thread_start(label)  (%s)
vfio_load_cleanup(label)  (%s)
vfio_load_device_config_state_end(label)  (%s)
vfio_load_device_config_state_start(label)  (%s)
vfio_load_state(label, data)  (%s) data 0x%lx
vfio_load_state_device_buffer_end(label)  (%s)
vfio_load_state_device_buffer_incoming(label, idx)  (%s) idx %u
vfio_load_state_device_buffer_load_end(label, idx)  (%s) idx %u
vfio_load_state_device_buffer_load_start(label, idx)  (%s) idx %u
vfio_load_state_device_buffer_start(label)  (%s)
vfio_load_state_device_buffer_starved(label, idx)  (%s) idx %u
vfio_load_state_device_data(label, size, ret)  (%s) size %lu ret %d
vfio_migration_init(label, mig_flags, precopy_info_v2_used, dirty_pages_supported)\
  (%s) mig_flags 0x%lx, precopy_info_v2_used %d, dirty_pages_supported %d
vfio_migration_realize(label)  (%s)
vfio_migration_set_device_state(label, state)  (%s) state %s
vfio_migration_set_state(label, new_state, recover_state)  (%s) new state %s, recover state %s
vfio_migration_state_notifier(label, state)  (%s) state %d
vfio_query_precopy_size(label, init, dirty, reinit, ret)\
  (%s) init %lu, dirty %lu, reinit %d, ret %d
vfio_query_precopy_size_request_switchover_ack(label)  (%s)
vfio_query_stop_copy_size(label, stopcopy, ret)  (%s) stopcopy size %lu ret %d
vfio_save_block(label, data_size)  (%s) data_size %d
vfio_save_block_precopy_empty_hit(label)  (%s)
vfio_save_cleanup(label)  (%s)
vfio_save_complete_precopy(label, ret)  (%s) ret %d
vfio_save_complete_precopy_start(label)  (%s)
vfio_save_complete_precopy_thread_end(label, ret)  (%s) ret %d
vfio_save_complete_precopy_thread_start(label, idstr, instance)  (%s) idstr %s instance %u
vfio_save_device_config_state(label)  (%s)
vfio_save_iterate(label, init, dirty)\
  (%s) precopy initial size %lu precopy dirty size %lu
vfio_save_iterate_start(label)  (%s)
vfio_save_setup(label, data_buffer_size)  (%s) data buffer size %lu
vfio_send_init_data_flag(label)  (%s)
vfio_state_pending(label, stopcopy, init, dirty, request_switchover_ack, exact, final)\
  (%s) stopcopy size %lu, precopy initial size %lu, precopy dirty size %lu,\
 request switchover ack %d, exact %d, final %d
vfio_state_pending_estimate(label, precopy, postcopy, init, dirty)\
  (%s) precopy %lu postcopy %lu precopy initial size %lu precopy dirty size %lu
vfio_state_pending_exact(label, precopy, postcopy, stopcopy, init, dirty)\
  (%s) precopy %lu postcopy %lu stopcopy size %lu precopy initial size %lu precopy dirty size %lu
vfio_vmstate_change(label, running, reason, state)  (%s) running %d reason %s device state %s
vfio_vmstate_change_prepare(label, running, reason, state)\
  (%s) running %d reason %s device state %s
vm_state_notify(running, reason, reason_name) running %d reason %d (%s)
vmstate_downtime_checkpoint(checkpoint) %s
vmstate_downtime_load(type, idstr, instance_id, downtime)\
 type=%s idstr=%s instance_id=%d downtime=%li
vmstate_downtime_save(type, idstr, instance_id, downtime)\
 type=%s idstr=%s instance_id=%d downtime=%li
"""

_MAX_TEXT = 4096  # more than any event of the table prints; keeps backtracking harmless

_CONVERSION = re.compile(r"%(?:%|[-#0 +]*\d*(?:\.\d+)?(?:hh|h|ll|l|z|j|t)?([diuxXopcs]))")
_PATTERNS: Mapping[str, tuple[str, Callable[[str], Value]]] = {
    "s": ("(.*?)", str),
    "c": ("(.)", str),
    "p": (r"(0x[0-9a-fA-F]+|\(nil\))", str),
    "o": ("([0-7]+)", functools.partial(int, base=8)),
    "x": ("([0-9a-fA-F]+)", functools.partial(int, base=16)),
    "u": (r"(\d{1,20})", int),
    "d": (r"(-?\d{1,20})", int),
}
_SAME = {"X": "x", "i": "d"}


class Format:
    """One printf format with names for its arguments: reads the text that printf made of it.

    Raises:
        ValueError: a conversion that no trace event uses, or too many or few names.
    """

    def __init__(self, template: str, names: tuple[str, ...]) -> None:
        self.template = template
        self.names = names
        self.readers: list[Callable[[str], Value]] = []
        pattern, position = "", 0
        for conversion in _CONVERSION.finditer(template):
            pattern += re.escape(template[position : conversion.start()])
            position = conversion.end()
            letter = conversion[1]
            if letter is None:
                pattern += "%"
                continue
            padding = " *" if re.search(r"%-?[1-9]", conversion[0]) else ""
            expression, reader = _PATTERNS[_SAME.get(letter, letter)]
            pattern += padding + expression
            self.readers.append(reader)
        rest = template[position:]
        if "%" in rest or len(self.readers) != len(names):
            raise ValueError(f"can't compile the format {template!r} with arguments {names}")
        self._pattern = re.compile(pattern + re.escape(rest), re.ASCII | re.DOTALL)

    def read(self, text: str) -> dict[str, Value] | None:
        """The arguments in `text`, or None when the format did not print it."""
        found = self._pattern.fullmatch(text)
        if found is None:
            return None
        values = zip(self.names, self.readers, found.groups(), strict=True)
        return {name: reader(value) for name, reader, value in values}


@functools.cache
def table() -> Mapping[str, tuple[Format, ...]]:
    """The formats of each event in the table, newest first."""
    formats: dict[str, list[Format]] = {}
    for line in _TABLE.strip().splitlines():
        event, _, rest = line.partition("(")
        names, _, template = rest.partition(") ")
        formats.setdefault(event, []).append(Format(template, tuple(names.split(", "))))
    return {event: tuple(known) for event, known in formats.items()}


_LABEL = re.compile(r" ?\(([^()\s]+)\)(?: |$)")
_PAIR = re.compile(r"([A-Za-z_][\w-]*)= ?([^\s,;=]+)", re.ASCII)


def arguments(event: str, text: str) -> dict[str, Value]:
    """The arguments of `event` in `text`, by name; numbers as int.

    Formats of the table come first; text that none of them made, and events that the table does
    not have, give their `key=value` pairs (`-` in a key becomes `_`) and the device label.
    """
    if len(text) <= _MAX_TEXT:
        for known in table().get(event, ()):
            if (found := known.read(text)) is not None:
                return found
    values = {key_name(pair[1]): _value(pair[2]) for pair in _PAIR.finditer(text[:_MAX_TEXT])}
    device = label(text)
    return values if device is None else {LABEL: device, **values}


def label(text: str) -> str | None:
    """The device label at the start of an event's text, or None."""
    found = _LABEL.match(text)
    return found[1] if found else None


def key_name(key: str) -> str:
    """How an argument is called here: `new state`, `new-state` and `new_state` are the same."""
    return key.strip().replace(" ", "_").replace("-", "_")


def _value(text: str) -> Value:
    if re.fullmatch(r"-?\d{1,20}", text, re.ASCII):
        return int(text)
    if re.fullmatch(r"0x[0-9a-fA-F]{1,16}", text):
        return int(text, 16)
    return text
