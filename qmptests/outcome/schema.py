"""The JSON Schema of `outcome.json`; `python -m qmptests.outcome.schema` prints it.

What it prints is committed as docs/reference/outcome.schema.json, for readers in other languages.
"""

import inspect
import sys

import msgspec

from qmptests.outcome.record import SCHEMA, OutcomeRecord


def generate() -> bytes:
    """The schema (JSON Schema 2020-12) as text, with a newline at its end."""
    schema = msgspec.json.schema(OutcomeRecord)
    titled = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": f"qmptests outcome, schema {SCHEMA}",
        **schema,
    }
    # Another number is another schema; msgspec knows of an integer only.
    titled["$defs"]["OutcomeRecord"]["properties"]["schema"]["const"] = SCHEMA
    for definition in titled["$defs"].values():
        # A docstring's indentation is its author's up to Python 3.12 and taken off from 3.13 on.
        definition["description"] = inspect.cleandoc(definition.get("description", ""))
    return msgspec.json.format(msgspec.json.encode(titled), indent=2) + b"\n"


if __name__ == "__main__":
    sys.stdout.buffer.write(generate())
