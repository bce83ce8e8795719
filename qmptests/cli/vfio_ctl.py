"""`qmptests vfio ctl`: hold, release, re-initialise or fault a device from another terminal."""

import contextlib
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from qmptests.errors import InputError, TestedFailure
from qmptests.vfio import script, when
from qmptests.vfio.client import Client, only_one

#: What a device can be told to do at once: what `do` of a rule can be, but for what is done to the
#: call that the rule is about.
_AT_ONCE = tuple(
    do
    for do, kind in script.DO.items()
    if do not in script.DAMAGE and do not in ("hold", "hang") and kind not in ("errno", "time")
)
#: Actions that need a value, and how it is called.
_VALUES = {
    "hold": "CALL",
    "rule": "LINE",
    "unrule": "NUMBER",
    **{do: script.DO[do].upper() for do in _AT_ONCE if script.DO[do]},
}
_ACTIONS = ("status", "watch", "hold", "release", "rule", "unrule", *_AT_ONCE)
#: They concern all devices.
_OF_ALL = ("status", "watch")


@click.command()
@click.option(
    "--socket",
    "path",
    type=click.Path(path_type=Path),
    default=None,
    metavar="PATH",
    help="Of `qmptests vfio run` (default: the only one that runs).",
)
@click.option("--json", "as_json", is_flag=True, help="Print the answer, or each event, as JSON.")
@click.argument("action", metavar="ACTION", type=click.Choice(_ACTIONS))
@click.argument("words", metavar="[DEVICE] [VALUE]", nargs=-1)
def ctl(path: Path | None, as_json: bool, action: str, words: Sequence[str]) -> None:
    """Steer the devices of a running `qmptests vfio run`.

    \b
    status              state and held calls of each device
    watch               how they are, then what happens, until the command ends
    hold CALL           hold the next such call: set-state:stop-copy
    release             let what is held go on
    rule LINE           add a rule: read+errno=EIO+nth=2
    unrule NUMBER       take a rule away
    reinit SIZE         and grow, dirty, grow-stop-copy, announce: have data appear
    error               go to the state error
    interrupt NUMBER    trigger this vector
    dma NUMBER          write so many pages of the guest's memory
    dma-unreported NUMBER  the same, and tell nobody
    die                 kill the supervisor

    DEVICE is needed where there are several; `release` without it means all of them.
    """
    value, named = _split(action, words)
    rule = _rule(action, value)
    client = Client(path or only_one())
    try:
        if action == "watch":
            _watch(client, as_json)
            return
        answer = _do(client, action, named, value, rule)
        if as_json:
            click.echo(json.dumps(answer, indent=2))
        else:
            _print(action, answer)
    except (KeyError, TypeError, AttributeError) as error:
        raise client.senseless() from error
    finally:
        client.close()


def _split(action: str, words: Sequence[str]) -> tuple[str, str]:
    """The value and the device among the words; raises InputError."""
    left = list(words)
    value = left.pop() if action in _VALUES and left else ""
    if action in _VALUES and not value:
        raise InputError(f"{action} what? ctl {action} [DEVICE] {_VALUES[action]}")
    device = left.pop() if left and action not in _OF_ALL else ""
    if left:
        needs = "".join((" [DEVICE]" * (action not in _OF_ALL), f" {_VALUES.get(action, '')}"))
        raise InputError(f"too many words: ctl {action}{needs.rstrip()}")
    return value, device


def _rule(action: str, value: str) -> Any:
    """The rule that a value stands for; None for what has none. Raises InputError."""
    if action == "rule":
        return when.parse(value).rule()
    if action == "hold":
        call, plus, conditions = value.partition("+")
        return when.parse(f"{call}+hold{plus}{conditions}").rule()
    if action in _VALUES and action != "unrule":
        with when.keyed(action):
            return when.When(call="get-state", do=f"{action}={value}").rule()
    return None


def _do(client: Client, action: str, named: str, value: str, rule: Any) -> dict[str, Any]:
    if action in ("status", "release"):
        return client.request(action, named)
    device = named or _only_device(client)
    if action in ("rule", "hold"):
        return client.request("rule", device, rule=rule._asdict())
    if action == "unrule":
        with when.keyed("unrule"):
            number = when.number(value)
        return client.request("unrule", device, number=number)
    with contextlib.suppress(TestedFailure) if action == "die" else contextlib.nullcontext():
        return client.request(action, device, value=rule.value if rule else 0)
    return {}  # it is dead


def _only_device(client: Client) -> str:
    names = [device["name"] for device in client.request("status")["devices"]]
    if len(names) > 1:
        raise InputError(f"which device? there are {', '.join(names)}")
    return str(names[0])


def _print(action: str, answer: dict[str, Any]) -> None:
    """Nothing where there is nothing to say."""
    if action == "release":
        click.echo(f"released {answer['released']}")
    elif action in ("rule", "hold"):
        click.echo(f"rule {answer['number']}")
    elif action == "status":
        rows = [("DEVICE", "STATE", "SENT", "REINITS", "HELD")]
        for device in answer["devices"]:
            held = ", ".join(" ".join(map(str, call.values())) for call in device["held"])
            sent, reinits = str(device["sent_bytes"]), str(device["reinits"])
            rows.append((device["name"], device["state"], sent, reinits, held or "-"))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            click.echo("  ".join(cells).rstrip())


def _watch(client: Client, as_json: bool) -> None:
    """How things are, then what happens; in between nothing is lost."""
    for event in itertools.chain(_now(client.request("status")), client.events()):
        click.echo(json.dumps(event) if as_json else words_of(event))


def _now(status: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A status as the events that led to it."""
    for device in status["devices"]:
        name = device["name"]
        yield {"event": "state", "device": name, "state": device["state"]}
        for held in device["held"]:
            detail = {key: value for key, value in held.items() if key != "call"}
            yield {"event": "held", "device": name, "call": held["call"], "detail": detail}


_EVENTS: dict[str, Callable[[dict[str, Any]], str]] = {
    "held": lambda e: " ".join(["held", e["call"], *(f"{k}={v}" for k, v in e["detail"].items())]),
    "fired": lambda e: f"fired {e['rule']} (at {e['call']})",
    "state": lambda e: f"state {e['state']}",
    "problem": lambda e: f"problem {e['words']}",
    "ended": lambda e: f"ended status {e['status']}",
}


def words_of(event: dict[str, Any]) -> str:
    """An event in one line: the device, what, and the rest."""
    words = _EVENTS.get(event["event"])
    said = words(event) if words else json.dumps(event)
    return f"{event.get('device', '-')} {said}"
