"""The outcome of a migration: its record, its schema, its folder. Pure data."""

from qmptests.outcome.outcome import Outcome, Side
from qmptests.outcome.record import SCHEMA, OutcomeRecord, Result

__all__ = ["SCHEMA", "Outcome", "OutcomeRecord", "Result", "Side"]
