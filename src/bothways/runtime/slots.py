"""Run texts of any number and length through all members in slots, with bounded memory.

In: an iterable of tokenized texts. Out: each text's pooled vector for each member, in the order of the texts. Owns
padding at inference. Does not know labels.

Texts in flight hold a slot each: their tokens and, for every member, the carried state. A round advances every one of
them by a window, in batches of slots whose next windows are about equally long, so that little padding is executed;
few texts, as a single one, by more windows at once, since each time all weights have to be fetched again. Finished
texts leave, waiting ones take their slots. A text's arithmetic is the same whoever its neighbours are.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bothways.bundle.manifest import Member
from bothways.runtime.sessions import WINDOW_TOKENS, EncoderSession
from bothways.text.reading import Ids, TokenizedText, read
from bothways.text.tokenizer import PADDING_ID

BATCH_SLOTS = 32
"""Texts in a batch at most, or windows of fewer texts. With more, products gain nothing, and what lies between them
leaves the caches."""
SLOTS = 1024
"""Texts in flight at most."""

_TOKENS_IN_FLIGHT = 2_000_000
_RESULTS_WAITING = 20_000
"""Texts read ahead of the next result at most: those in flight, and finished ones that wait for a longer one."""

Pooled = NDArray[np.float32]


@dataclass(eq=False)
class _Flight:
    """One text on its way: its number, and for each member its ids in reading order and what of them is pooled.

    ``reading`` are the members that read it now, ``pooled`` what those gave that have read it; ``rounds`` counts those
    since it took its slot.
    """

    number: int
    reading: list[int]
    ids_by_member: list[Ids]
    pooled_from: list[int]
    last_pooled: list[int]
    pooled_tokens: list[int]
    pooled: list[Pooled | None]
    position: int = 0
    rounds: int = 0

    def next_tokens(self, windows: int = 1) -> int:
        """Tokens of the next windows, until the text's end, or where pooling begins or the last state is taken."""
        stops = [stop for stop in (*self.pooled_from, *(p + 1 for p in self.last_pooled)) if stop > self.position]
        return min(windows * WINDOW_TOKENS, min([len(self.ids_by_member[0]), *stops]) - self.position)

    @property
    def is_finished(self) -> bool:
        return self.position >= len(self.ids_by_member[0])


class MemberStates:
    """The carried arrays of one member, one row a slot."""

    def __init__(self, session: EncoderSession, slots: int) -> None:
        width = session.layout.output_width
        self.session = session
        self.states = [np.zeros((slots, w), dtype=np.float32) for w in session.layout.state_widths]
        self.largest = np.zeros((slots, width), dtype=np.float32)
        self.total = np.zeros((slots, width), dtype=np.float64)
        self.last = np.zeros((slots, width), dtype=np.float32)

    def copied(self) -> MemberStates:
        """Return another one that goes on from here by itself."""
        other = copy.copy(self)
        other.states = [state.copy() for state in self.states]
        other.largest, other.total, other.last = self.largest.copy(), self.total.copy(), self.last.copy()
        return other

    def row(self, slot: int) -> MemberStates:
        """Return what one slot holds by itself, as the only slot of another one."""
        other = copy.copy(self)
        other.states = [state[slot : slot + 1].copy() for state in self.states]
        other.largest, other.total = self.largest[slot : slot + 1].copy(), self.total[slot : slot + 1].copy()
        other.last = self.last[slot : slot + 1].copy()
        return other

    def put(self, slot: int, row: MemberStates) -> None:
        """Let a slot hold what ``row`` gave."""
        for state, kept in zip(self.states, row.states, strict=True):
            state[slot] = kept[0]
        self.largest[slot], self.total[slot], self.last[slot] = row.largest[0], row.total[0], row.last[0]

    def clear(self, slot: int) -> None:
        """Let a text begin in a slot."""
        for state in self.states:
            state[slot] = 0
        self.clear_pool(slot)

    def clear_pool(self, slot: int) -> None:
        """Let pooling begin in a slot."""
        self.largest[slot] = -np.inf
        self.total[slot] = 0

    def advance(self, slots: NDArray[np.intp], ids: NDArray[np.int64], lengths: NDArray[np.int32]) -> None:
        """Read the next tokens of the texts in some slots: ids, (T, B), of which lengths, (B,), count."""
        states, largest, total = self.session.advance(
            ids, lengths, [state[slots] for state in self.states], self.largest[slots], self.total[slots]
        )
        for state, new in zip(self.states, states, strict=True):
            state[slots] = new
        self.largest[slots] = largest
        self.total[slots] = total

    def take_last(self, slot: int) -> None:
        """Let the state after the window that was read be the last one that is pooled."""
        self.last[slot] = self.states[self.session.layout.output_state][slot]

    def pooled(self, slot: int, pooled_tokens: int) -> Pooled:
        """Return last | largest | mean of the outputs of a finished text, (3E,)."""
        mean = (self.total[slot] / pooled_tokens).astype(np.float32)
        largest = np.where(np.isneginf(self.largest[slot]), 0, self.largest[slot])  # nothing but typed padding
        return np.concatenate([self.last[slot], largest.astype(np.float32), mean])


@dataclass(frozen=True)
class First:
    """A member that reads each text first, and whether what it pooled is enough: or all other members read as well."""

    member: int
    is_enough: Callable[[Pooled], bool]


@dataclass
class Tally:
    """How many tokens a run's members needed, and how many they executed: those and the padding in their windows."""

    needed: int = 0
    executed: int = 0


class Slots:
    """Texts on their way through all members: each joins before a round, and leaves after the one that ends it.

    In between it may be parked: it gives up its slot, and goes on later from where it was (guarantee 2).

    Not to be shared between threads. ``close`` it in the end.

    Attributes:
        tokens: Of the texts in flight, all of each; parked ones are not in flight.
    """

    def __init__(
        self,
        engine: SlotEngine,
        most: int,
        first: First | None = None,
        tally: Tally | None = None,
        most_windows: int = BATCH_SLOTS,
    ) -> None:
        """Take up to ``most`` texts at a time; ``first`` and ``tally`` as ``SlotEngine.run_early_exit`` has them.

        A round goes on by ``most_windows`` of a text at most: with fewer, texts that come meanwhile join sooner.
        """
        self._engine, self._most, self._first, self._tally = engine, most, first, tally
        self._most_windows = most_windows
        self._members: list[MemberStates] = []
        self._flights: dict[int, _Flight] = {}  # by slot
        self._parked: dict[int, tuple[_Flight, list[MemberStates]]] = {}  # by number
        self._free: list[int] = []
        self._pool = ThreadPoolExecutor(engine.threads, "bothways") if engine.threads > 1 else None
        self.tokens = 0

    def __len__(self) -> int:
        return len(self._flights)

    @property
    def is_full(self) -> bool:
        """Whether no text can join now."""
        return len(self._flights) >= self._most

    def join(self, number: int, text: TokenizedText) -> None:
        """Let a text begin in the next round, under a number by which it is told."""
        slot = self._free_slot()
        for member in self._members:
            member.clear(slot)
        everyone = range(len(self._engine.members))
        self._flights[slot] = self._engine._flight(number, text, [self._first.member] if self._first else [*everyone])
        self.tokens += len(text)

    def park(self, most: int, rounds: int) -> list[int]:
        """Let texts leave their slots for a while, and give their numbers.

        Args:
            most: So many at most: those that have held their slots longest.
            rounds: None that has held its slot for fewer.
        """
        held = [(flight.rounds, slot) for slot, flight in self._flights.items() if flight.rounds >= rounds]
        parked = []
        for _, slot in sorted(held, reverse=True)[:most]:
            flight, states = self._flights[slot], [member.row(slot) for member in self._members]
            self._leave(slot)
            self._parked[flight.number] = flight, states
            parked.append(flight.number)
        return parked

    def resume(self, number: int) -> None:
        """Let a parked text go on in the next round, from where it was, to the bit."""
        slot = self._free_slot()
        flight, states = self._parked.pop(number)
        for member, kept in zip(self._members, states, strict=True):
            member.put(slot, kept)
        flight.rounds = 0
        self._flights[slot] = flight
        self.tokens += len(flight.ids_by_member[0])

    def advance(self) -> list[tuple[int, list[Pooled | None]]]:
        """Read on in each text, and give the numbers of those that end here with what each member pooled."""
        self._read_windows()
        ended = []
        for slot, flight in list(self._flights.items()):
            if not flight.is_finished:
                continue
            for number in flight.reading:
                flight.pooled[number] = self._members[number].pooled(slot, flight.pooled_tokens[number])
            if self._first is not None and _is_unsure(flight, self._first):
                flight.reading = [number for number in range(len(self._members)) if number != self._first.member]
                flight.position = 0
                continue
            self._leave(slot)
            ended.append((flight.number, flight.pooled))
        return ended

    def drop(self, numbers: Collection[int]) -> None:
        """Let texts leave before their end, parked ones, too."""
        for number in numbers:
            self._parked.pop(number, None)
        for slot in [slot for slot, flight in self._flights.items() if flight.number in numbers]:
            self._leave(slot)

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown()

    def _free_slot(self) -> int:
        assert not self.is_full
        if not self._free:
            self._grow()
        return self._free.pop()

    def _leave(self, slot: int) -> None:
        self.tokens -= len(self._flights.pop(slot).ids_by_member[0])
        self._free.append(slot)

    def _grow(self) -> None:
        """Take twice the slots, with the states of those in use kept; starts small for a single text."""
        used = len(self._flights)
        size = min(self._most, max(8, 2 * used))
        grown = [MemberStates(session, size) for session in self._engine.sessions]
        for old, new in zip(self._members, grown, strict=False):
            new.largest[:used], new.total[:used], new.last[:used] = old.largest, old.total, old.last
            for old_state, new_state in zip(old.states, new.states, strict=True):
                new_state[:used] = old_state
        self._free, self._members = list(range(size - 1, used - 1, -1)), grown

    def _read_windows(self) -> None:
        """Advance every text in flight by the next windows of those members that read it now."""
        by_length = sorted(self._flights.items(), key=lambda item: (item[1].reading, -item[1].next_tokens()))
        batches: list[_Batch] = []
        jobs: list[tuple[int, _Batch]] = []
        for reading, group in itertools.groupby(by_length, key=lambda item: item[1].reading):
            alike = list(group)
            for start in range(0, len(alike), BATCH_SLOTS):
                batch = _Batch.of(alike[start : start + BATCH_SLOTS], self._most_windows)
                batches.append(batch)
                jobs += [(number, batch) for number in reading]
                if self._tally is not None:
                    self._tally.needed += len(reading) * int(batch.lengths.sum())
                    self._tally.executed += len(reading) * int(batch.lengths.max()) * len(batch.flights)
        jobs.sort(key=lambda job: job[0])  # one member after the other, while its weights are in the cache
        for _ in (self._pool.map if self._pool else map)(self._read_batch, jobs):
            pass
        for batch in batches:
            for flight, length in zip(batch.flights, batch.lengths.tolist(), strict=True):
                flight.position += length
                flight.rounds += 1

    def _read_batch(self, job: tuple[int, _Batch]) -> None:
        number, batch = job
        member = self._members[number]
        ids = np.full((batch.lengths.max(), len(batch.flights)), PADDING_ID, dtype=np.int64)
        for column, (slot, flight) in enumerate(zip(batch.slots, batch.flights, strict=True)):
            stop = flight.position + batch.lengths[column]
            ids[: batch.lengths[column], column] = flight.ids_by_member[number][flight.position : stop]
            if 0 < flight.position == flight.pooled_from[number]:
                member.clear_pool(slot)
        member.advance(batch.slots, ids, batch.lengths)
        for slot, flight, length in zip(batch.slots, batch.flights, batch.lengths, strict=True):
            if flight.position + length == flight.last_pooled[number] + 1:
                member.take_last(slot)


@dataclass(frozen=True)
class _Batch:
    """Texts whose next windows are read at once."""

    slots: NDArray[np.intp]
    flights: list[_Flight]
    lengths: NDArray[np.int32]

    @classmethod
    def of(cls, items: Sequence[tuple[int, _Flight]], most_windows: int) -> _Batch:
        """Take a window of each text, or more if they are few, as long as none of them stops before the last."""
        flights = [flight for _, flight in items]
        most = min(most_windows, BATCH_SLOTS // len(flights))
        shortest = min(flight.next_tokens(most) for flight in flights)
        lengths = [flight.next_tokens(math.ceil(shortest / WINDOW_TOKENS)) for flight in flights]
        return cls(np.array([slot for slot, _ in items]), flights, np.array(lengths, dtype=np.int32))


class SlotEngine:
    """Reads texts with every member of an ensemble.

    Guarantee 2: a text's result is bit-identical alone, in any company and in any order.
    Guarantee 4: result *i* belongs to text *i*.
    Guarantee 6: memory is bounded by the slots, for any number of texts and for a text of any length.

    Safe to use from several threads: nothing is kept between runs.

    Attributes:
        members: In whose order results come.
        sessions: Theirs.
        threads: Batches that are read at the same time.
    """

    def __init__(self, members: list[Member], sessions: list[EncoderSession], threads: int = 1) -> None:
        self.members = members
        self._readings = [(member.direction, member.special_tokens) for member in members]
        self._poolings = [member.pooling for member in members]
        self.sessions = sessions
        self.threads = threads

    def without(self, number: int) -> SlotEngine:
        """Return an engine of all members but one."""
        keep = [other for other in range(len(self.members)) if other != number]
        members, sessions = [self.members[n] for n in keep], [self.sessions[n] for n in keep]
        return SlotEngine(members, sessions, self.threads)

    def begun(self, number: int) -> MemberStates:
        """Return the states of one member at the beginning of a text, in slot 0 of one."""
        states = MemberStates(self.sessions[number], 1)
        states.clear(0)
        return states

    def run(self, texts: Iterable[TokenizedText], lookahead: int = SLOTS) -> Iterator[list[Pooled]]:
        """Return each text's pooled vectors, one (3E,) float32 a member, in the order of the texts.

        Args:
            texts: As ``run_early_exit`` has them.
            lookahead: As ``run_early_exit`` has it.
        """
        for pooled in self.run_early_exit(texts, lookahead, None):
            yield [vector for vector in pooled if vector is not None]

    def run_early_exit(
        self, texts: Iterable[TokenizedText], lookahead: int, first: First | None, tally: Tally | None = None
    ) -> Iterator[list[Pooled | None]]:
        """Return texts' pooled vectors, one (3E,) float32 a member or None if it did not read, in the texts' order.

        A member gives the same bits, whether it reads at once with others or after the first one.

        Args:
            texts: Read as slots fall free, never more than ``lookahead`` ahead of what is in work.
            lookahead: Texts in flight at most, 1..SLOTS. 1 gives each result before the next text is asked for.
            first: Reads alone, and only if that is not enough all others do; else all read at once.
            tally: Adds up what is read.
        """
        finished: dict[int, list[Pooled | None]] = {}  # by number
        source = iter(texts)
        joined, told = 0, 0
        has_more = True
        with closing(Slots(self, min(lookahead, SLOTS), first, tally)) as slots:
            while True:
                while has_more and not slots.is_full and joined - told < _RESULTS_WAITING:
                    if len(slots) and slots.tokens > _TOKENS_IN_FLIGHT:
                        break
                    text = next(source, None)
                    if text is None:
                        has_more = False
                        break
                    slots.join(joined, text)
                    joined += 1
                if not len(slots):
                    return
                finished |= slots.advance()
                while told in finished:
                    yield finished.pop(told)
                    told += 1

    def _flight(self, number: int, text: TokenizedText, reading: list[int]) -> _Flight:
        """Return a text at its beginning, as each member reads it."""
        ids_by_member = [read(text, *order) for order in self._readings]
        flight = _Flight(number, reading, ids_by_member, [], [], [], [None] * len(ids_by_member))
        for pooling, ids in zip(self._poolings, flight.ids_by_member, strict=True):
            flight.pooled_from.append(pooling.first_pooled(len(ids)) if pooling else 0)
            flight.last_pooled.append(pooling.last_pooled(ids) if pooling else len(ids) - 1)
            flight.pooled_tokens.append(pooling.pooled_tokens(ids) if pooling else len(ids))
        return flight


def _is_unsure(flight: _Flight, first: First) -> bool:
    """Whether a text that the first member has read needs the others, which haven't."""
    pooled = flight.pooled[first.member]
    return flight.reading == [first.member] and pooled is not None and not first.is_enough(pooled)
