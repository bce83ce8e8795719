"""What happens at which call: rules, and which of them apply to the call that is there now.

A `Script` only says which rules fire; the supervisor and the device do what they say. Pure, and
cheap for a call that no rule is about.
"""

from typing import Final, NamedTuple

from qmptests.vfio.calls import Call
from qmptests.vfio.spec import Rule

#: What a rule's `value` is, for each `do`; "" for none.
NOTHING: Final = ""
ERRNO: Final = "errno"
SECONDS: Final = "time"
BYTES: Final = "size"
NUMBER: Final = "number"

#: All that `do` can be, with what its value is.
#:
#: - hold: the call waits until it is released
#: - errno: it is answered with this error and has no effect
#: - delay: its answer takes this many seconds more
#: - hang: it is never answered
#: - reinit: this many initial bytes appear, with REINIT, dirty bytes start again at 0
#: - grow: this many initial bytes appear, and nothing says so
#: - dirty: this many dirty bytes appear
#: - grow-stop-copy: there are this many more bytes to read in STOP_COPY than was announced
#: - announce: MIG_DATA_SIZE says this many bytes from now on
#: - error: the device goes to ERROR and answers EIO
#: - flip, drop, double, swap: a bit, a block of 4 KiB less, the same twice, two in the wrong order
#: - magic: a wrong magic number at a block's begin
#: - eof: the read says that the stream is at its end
#: - interrupt: the device raises this vector
#: - err: it reports an error that it can't recover from
#: - req: it is wanted back: QEMU is asked to let go of it
#: - dma: the device writes this many random pages of the guest's memory
#: - dma-unreported: the same, and nobody learns which: a lie
#: - die: the supervisor is killed
DO: Final = {
    "hold": NOTHING,
    "errno": ERRNO,
    "delay": SECONDS,
    "hang": NOTHING,
    "reinit": BYTES,
    "grow": BYTES,
    "dirty": BYTES,
    "grow-stop-copy": BYTES,
    "announce": BYTES,
    "error": NOTHING,
    "flip": NOTHING,
    "drop": NOTHING,
    "double": NOTHING,
    "swap": NOTHING,
    "magic": NOTHING,
    "eof": NOTHING,
    "interrupt": NUMBER,
    "err": NOTHING,
    "req": NOTHING,
    "dma": NUMBER,
    "dma-unreported": NUMBER,
    "die": NOTHING,
}

#: What is done to the data that a read delivers: nothing else has any.
DAMAGE: Final = frozenset({"flip", "drop", "double", "swap", "magic"})
#: What only a read can have.
OF_READS: Final = DAMAGE | {"eof"}

#: What writes to the guest's memory.
DMA: Final = frozenset({"dma", "dma-unreported"})


class Fired(NamedTuple):
    """A rule that has fired, and when it did so first: seconds since the device was bound."""

    rule: Rule
    since_s: float


class _Entry:
    """A rule and what has come of it."""

    __slots__ = ("fired", "met", "number", "rule", "word")

    def __init__(self, number: int, rule: Rule) -> None:
        self.number = number
        self.rule = rule
        self.word = rule.on.partition(":")[2]
        self.met = 0  # calls that met all conditions but `nth`
        self.fired = 0

    def match(self, call: Call, state: str, moved: int, since: float) -> bool:
        rule = self.rule
        if self.word and all(self.word != str(value) for _, value in call.detail):
            return False
        if rule.states and state not in rule.states:
            return False
        if moved < rule.after_bytes or since < rule.after_s:
            return False
        self.met += 1
        if self.met < rule.nth:
            return False
        self.fired += 1
        return True

    @property
    def over(self) -> bool:
        """Whether it has fired as often as it may."""
        return 0 < self.rule.times <= self.fired


class Script:
    """The rules of one device, in the order in which they were added.

    `fired`: rules that have fired, each once, in the order in which they first did.
    """

    def __init__(self, rules: tuple[Rule, ...] = ()) -> None:
        self.fired: list[Fired] = []
        self._added = 0
        self._entries: dict[int, _Entry] = {}
        # By call name, only rules that can still fire.
        self._waiting: dict[str, list[_Entry]] = {}
        for rule in rules:
            self.add(rule)

    @property
    def rules(self) -> dict[int, Rule]:
        """All of them by number, those that are over as well."""
        return {number: entry.rule for number, entry in self._entries.items()}

    def add(self, rule: Rule) -> int:
        """Its number, from 1; it counts calls from now on."""
        self._added += 1
        entry = _Entry(self._added, rule)
        self._entries[entry.number] = entry
        self._waiting.setdefault(_name(rule), []).append(entry)
        return entry.number

    def remove(self, number: int) -> Rule:
        """The rule that had this number; raises KeyError if there is none.

        A rule that was taken away is not missed among the unfired.
        """
        entry = self._entries.pop(number)
        self._drop(entry)
        return entry.rule

    def watches(self, name: str) -> bool:
        """Whether some rule can still fire at a call of this name."""
        return name in self._waiting

    def match(self, call: Call, state: str, moved: int, since: float) -> list[Rule]:
        """The rules that fire at this call, which is counted.

        `state`: the device's, in words, before the call; `moved`: bytes of its data that were read
        or written so far; `since`: seconds since the device was first bound.
        """
        waiting = self._waiting.get(call.name)
        if waiting is None:
            return []
        matched = [entry for entry in waiting if entry.match(call, state, moved, since)]
        for entry in matched:
            if entry.fired == 1:
                self.fired.append(Fired(entry.rule, since))
            if entry.over:
                self._drop(entry)
        return [entry.rule for entry in matched]

    def unfired(self) -> list[Rule]:
        """Rules for which the moment never came."""
        return [entry.rule for entry in self._entries.values() if not entry.fired]

    def _drop(self, entry: _Entry) -> None:
        name = _name(entry.rule)
        left = [other for other in self._waiting.get(name, ()) if other is not entry]
        if left:
            self._waiting[name] = left
        else:
            self._waiting.pop(name, None)


def _name(rule: Rule) -> str:
    return rule.on.partition(":")[0]
