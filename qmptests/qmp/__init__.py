"""The monitor: QMP over an existing socket, with a transcript and bounded memory."""

from qmptests.qmp.events import Event, EventLog
from qmptests.qmp.monitor import CommandError, Monitor, MonitorLost
from qmptests.qmp.transcript import Transcript

__all__ = ["CommandError", "Event", "EventLog", "Monitor", "MonitorLost", "Transcript"]
