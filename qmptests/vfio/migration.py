"""What a device has to send, and what became of it: the data of one save after the other.

Bytes are only counted here; `content` makes them. Pure: time is an argument, monotonic seconds.
"""

import errno
from collections.abc import Callable

from qmptests.vfio.abi import MigrationFlag, PrecopyInfo, PrecopyInfoFlag, State
from qmptests.vfio.calls import Answer, Call, Kind, Memory, Span
from qmptests.vfio.spec import Spec

#: Kind and generation are a page's: one that a read has begun keeps them to its end.
PAGE = 4096
#: Bytes that a device with a rate makes ready while nobody reads, or takes while nobody writes: it
#: keeps its rate, whoever comes a little late.
AHEAD = 4 << 20

PRECOPY = frozenset({State.PRE_COPY, State.PRE_COPY_P2P})
#: States that share a session, and its data descriptor.
SAVING = PRECOPY | {State.STOP_COPY}


class Migration:
    """A device's data, in the state that `enter` told of last.

    `load`: asked on leaving RESUMING for what is wrong with what arrived, in words, "" if nothing;
    `arrives`: the same of what a write brings. `spoilt`: that has found something.
    `opted_in`: QEMU has set MIG_PRECOPY_INFOv2. `reinits`: how often REINIT was reported, of all
    saves; `generation`: the same of the current save. `moved`: bytes read and written so far.
    """

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.load: Callable[[], str] = lambda: ""
        self.arrives: Callable[[Call, Memory], str] = lambda _call, _memory: ""
        self.spoilt = False
        self.opted_in = False
        self.reinits = self.generation = self.moved = 0
        self._state = State.RUNNING
        self._precopy = bool(spec.migration & MigrationFlag.PRE_COPY)
        #: Bytes that no read has begun on. Kinds are read in this order.
        self._left = dict.fromkeys(Kind, 0)
        #: Dirty bytes of PRE_COPY that are not in the stream yet: GET_PRECOPY_INFO puts them there,
        #: once all others were read (mlx5vf_precopy_ioctl(), virtiovf_precopy_ioctl()).
        self._unsaved = 0
        #: Initial bytes that are to be, once a REINIT has been reported.
        self._pending = 0
        self._position = 0
        #: Kind, generation and length of the rest of a page that a read began.
        self._rest: tuple[Kind, int, int] | None = None
        self._rest_is_initial = False
        self._announced = spec.announce
        #: What appeared before there was a session to be read in.
        self._early: list[tuple[Callable[[int], None], int]] = []
        self._late_times = self._read_since_late = 0
        self._dirtied_until = self._free_at = 0.0

    # --- states ---------------------------------------------------------------------------------

    def enter(self, state: State, now: float) -> str:
        """Take one step of a path; the data descriptor that QEMU gets for it, "" for none."""
        self.advance(now)
        before, self._state = self._state, state
        self._dirtied_until = self._free_at = now
        if state not in SAVING:
            self.spoilt = False
            self.leave(state)
            return "resuming" if state is State.RESUMING else ""
        opens = before not in SAVING
        if opens:
            self._begin()
        while before is State.PRE_COPY and self.spec.late_at_stop and self._late_times:
            self._appear_late()
        if state is State.STOP_COPY:
            # What was not reported in time is no initial data any more, but has to be read.
            self._left[Kind.DIRTY] += self._pending
            self._pending = 0
            self._save_dirty()
        return "saving" if opens else ""

    def _begin(self) -> None:
        self._position = self.generation = 0
        self._left.update(self._first())
        self._late_times, self._read_since_late = self.spec.late_times, 0
        early, self._early = self._early, []
        for appear, size in early:
            appear(size)
        if self._state in PRECOPY and not self.spec.late_after:
            self._appear_late()
        self._save_dirty()

    def _first(self) -> dict[Kind, int]:
        """What there is at a save's beginning: all of it, even if PRE_COPY is left out."""
        spec, precopy = self.spec, self._precopy
        return {
            Kind.INITIAL: spec.initial_bytes * precopy,
            Kind.DIRTY: spec.dirty_bytes * precopy,
            Kind.STOP_COPY: spec.stop_copy - PAGE,
            Kind.END: PAGE,
        }

    def leave(self, state: State) -> None:
        """Be in a state that has no session: what was not read is lost."""
        self._state = state
        self._left = dict.fromkeys(Kind, 0)
        self._pending = self._unsaved = 0
        self._rest = None

    # --- what appears ---------------------------------------------------------------------------

    def advance(self, now: float) -> None:
        """Have time pass: in PRE_COPY a device makes dirty what was read."""
        if self._state is not State.PRE_COPY or not self.spec.dirty_rate:
            return
        pages = int((now - self._dirtied_until) * self.spec.dirty_rate) // PAGE
        if pages > 0:
            self._dirtied_until += pages * PAGE / self.spec.dirty_rate
            waiting = self._left[Kind.DIRTY] + self._unsaved
            room = max(0, self.spec.dirty_limit - waiting) // PAGE
            self._unsaved += min(pages, room) * PAGE

    def reinit(self, size: int) -> None:
        """`size` initial bytes appear; as dirty ones where QEMU has not opted in to REINIT.

        As all sizes that appear, it is in whole pages (else ValueError), and waits for the next
        save if there is none; in STOP_COPY it comes to what is read there.
        """
        if self._now(self.reinit, size):
            if self.opted_in and self._state in PRECOPY:
                self._pending += size
            else:
                self._add(Kind.DIRTY, size)

    def grow(self, size: int) -> None:
        """`size` initial bytes appear and nothing says so: a lie."""
        if self._now(self.grow, size):
            self._add(Kind.INITIAL, size)

    def dirty(self, size: int) -> None:
        """`size` dirty bytes appear."""
        if self._now(self.dirty, size):
            self._add(Kind.DIRTY, size)

    def grow_stop_copy(self, size: int) -> None:
        """There are `size` more bytes to read in STOP_COPY."""
        if self._now(self.grow_stop_copy, size):
            self._add(Kind.STOP_COPY, size)

    def announce(self, size: int) -> None:
        """MIG_DATA_SIZE says `size` from now on; -1: the truth."""
        self._announced = size

    def _now(self, appear: Callable[[int], None], size: int) -> bool:
        if size < 0 or size % PAGE:
            raise ValueError(f"{size} bytes can't appear: data has whole pages of {PAGE} bytes")
        if self._state in SAVING:
            return True
        self._early.append((appear, size))
        return False

    def _add(self, kind: Kind, size: int) -> None:
        if self._state is State.STOP_COPY:
            kind = Kind.STOP_COPY
        if not self._left[Kind.END]:  # nothing comes after it
            return
        if kind is Kind.DIRTY:
            self._unsaved += size
        else:
            self._left[kind] += size

    def _save_dirty(self) -> None:
        """From now on all dirty bytes can be read."""
        self._left[Kind.DIRTY] += self._unsaved
        self._unsaved = 0

    def _appear_late(self) -> None:
        if self._late_times:
            self._late_times -= 1
            self._read_since_late = 0
            self.reinit(self.spec.late_bytes)

    # --- what QEMU asks -------------------------------------------------------------------------

    def precopy_info(self, info: PrecopyInfo, now: float) -> PrecopyInfo | None:
        """What there is to read in PRE_COPY; None in any other state: EINVAL.

        Without the opt-in the caller has its own flags back: Linux never set them before there was
        one. A REINIT and dirty bytes that are new are not reported in PRE_COPY_P2P: mlx5 does not
        ask a device that is suspended. With `stale_info` a field that has nothing to say is left
        as the caller had it, as mlx5 and virtio do, which say one of the two alone.
        """
        if self._state not in PRECOPY:
            return None
        self.advance(now)
        flags = 0 if self.opted_in else info.flags
        left = self._left
        runs = self._state is State.PRE_COPY
        if self._pending and runs:
            flags = int(PrecopyInfoFlag.REINIT)
            self._begin_anew()
        rest = self._rest[2] if self._rest else 0
        initial = left[Kind.INITIAL] + (rest if self._rest_is_initial else 0)
        dirty = left[Kind.DIRTY] + (0 if self._rest_is_initial else rest)
        if runs:
            if not initial + dirty:
                self._save_dirty()
                dirty = left[Kind.DIRTY]
            dirty += self._unsaved
        if self.spec.stale_info:
            if initial:
                dirty = info.dirty_bytes
            else:
                initial = info.initial_bytes
        return PrecopyInfo(info.argsz, flags, initial, dirty)

    def _begin_anew(self) -> None:
        """A REINIT is reported: all that is unread is initial bytes."""
        self.reinits += 1
        self.generation += 1
        self._save_dirty()
        self._left[Kind.INITIAL] += self._left[Kind.DIRTY] + self._pending
        self._left[Kind.DIRTY] = self._pending = 0
        self._rest_is_initial = True

    def data_size(self, now: float) -> int:
        """All that is still to be sent, in whatever state, or what is announced in its stead."""
        if self._announced >= 0:
            return self._announced
        if self._state not in SAVING:
            return sum(self._first().values())
        self.advance(now)
        unread = sum(self._left.values()) + self._pending + self._unsaved
        return unread + (self._rest[2] if self._rest else 0)

    def read(self, count: int, now: float) -> Answer:
        """At most `count` bytes, of one kind and generation.

        ENOMSG if PRE_COPY has none at the moment, with `dry_is_eof` none, as of mtty, hisi_acc and
        qat; at the end of STOP_COPY none. A descriptor whose
        session is over gives ENODEV, as those of mlx5, virtio and hisi_acc do.
        """
        if self._state not in SAVING:
            return Answer(errno=errno.ENODEV)
        self.advance(now)
        span = self._take(count) if count else None
        if span is None:
            dry = count and self._state in PRECOPY and not self.spec.dry_is_eof
            return Answer(errno=errno.ENOMSG if dry else 0)
        self._position += span.length
        self.moved += span.length
        if self._state in PRECOPY:
            self._read_since_late += span.length
            if self._read_since_late >= self.spec.late_after:
                self._appear_late()
        return Answer(
            value=span.length,
            span=span,
            delay_s=self._keep_rate(span.length, self.spec.read_bandwidth, now),
            detail=(("bytes", span.length),),
        )

    def _take(self, count: int) -> Span | None:
        if self._rest is not None:
            kind, generation, rest = self._rest
            length = min(count, rest)
            self._rest = (kind, generation, rest - length) if length < rest else None
            return Span(self._position, length, kind, generation)
        kinds = (Kind.INITIAL, Kind.DIRTY) if self._state in PRECOPY else Kind
        for kind in kinds:
            if left := self._left[kind]:
                length = min(count, left)
                rest = -length % PAGE
                self._left[kind] -= length + rest
                self._rest = (kind, self.generation, rest) if rest else None
                self._rest_is_initial = kind is Kind.INITIAL
                return Span(self._position, length, kind, self.generation)
        return None

    def write(self, count: int, now: float) -> Answer:
        """`count` bytes arrive; ENODEV as for `read`."""
        if self._state is not State.RESUMING:
            return Answer(errno=errno.ENODEV)
        self.moved += count
        return Answer(value=count, delay_s=self._keep_rate(count, self.spec.write_bandwidth, now))

    def _keep_rate(self, size: int, bandwidth: int, now: float) -> float:
        """Seconds until these bytes have moved, after those before them; AHEAD may have already."""
        if not bandwidth:
            return 0.0
        self._free_at = max(self._free_at, now - AHEAD / bandwidth) + size / bandwidth
        return max(0.0, self._free_at - now)
