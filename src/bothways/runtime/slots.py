"""Run texts of any number and length through all members in slots, with bounded memory.

In: an iterable of tokenized texts. Out: each text's pooled vector for each member, in the order of the texts. Owns
padding at inference. Does not know labels.

Texts in flight hold a slot each: their tokens and, for every member, the carried state. A round advances every one of
them by one window, in batches of slots whose next windows are about equally long, so that little padding is executed.
Finished texts leave, waiting ones take their slots. A text's arithmetic is the same whoever its neighbours are.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bothways.bundle.manifest import Member
from bothways.runtime.graph import EncoderSession
from bothways.text.reading import Ids, TokenizedText, read
from bothways.text.tokenizer import PADDING_ID

WINDOW_TOKENS = 32
BATCH_SLOTS = 64
SLOTS = 512
"""Texts in flight at most."""

_TOKENS_IN_FLIGHT = 2_000_000
_RESULTS_WAITING = 20_000
"""Texts read ahead of the next result at most: those in flight, and finished ones that wait for a longer one."""

Pooled = NDArray[np.float32]


@dataclass(eq=False)
class _Flight:
    """One text on its way: its number, and for each member its ids in reading order and what of them is pooled.

    ``reading`` are the members that read it now, ``pooled`` what those gave that have read it.
    """

    number: int
    reading: list[int]
    ids_by_member: list[Ids]
    pooled_from: list[int]
    last_pooled: list[int]
    pooled_tokens: list[int]
    pooled: list[Pooled | None]
    position: int = 0

    @property
    def next_window(self) -> int:
        """Tokens until the text's end, the next place where pooling begins or the last state is taken, or a window."""
        stops = [stop for stop in (*self.pooled_from, *(p + 1 for p in self.last_pooled)) if stop > self.position]
        return min(WINDOW_TOKENS, min([len(self.ids_by_member[0]), *stops]) - self.position)

    @property
    def is_finished(self) -> bool:
        return self.position >= len(self.ids_by_member[0])


class MemberStates:
    """The carried arrays of one member, one row a slot."""

    def __init__(self, session: EncoderSession, slots: int) -> None:
        width = session.architecture.width_embedding
        self.session = session
        self.states = [np.zeros((slots, w), dtype=np.float32) for w in session.state_widths]
        self.largest = np.zeros((slots, width), dtype=np.float32)
        self.total = np.zeros((slots, width), dtype=np.float64)
        self.last = np.zeros((slots, width), dtype=np.float32)

    def copied(self) -> MemberStates:
        """Give another one that goes on from here by itself."""
        other = copy.copy(self)
        other.states = [state.copy() for state in self.states]
        other.largest, other.total, other.last = self.largest.copy(), self.total.copy(), self.last.copy()
        return other

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
        """Read one window of the texts in some slots: ids, (T, B), of which lengths, (B,), count."""
        states, largest, total = self.session.advance(
            ids, lengths, [state[slots] for state in self.states], self.largest[slots], self.total[slots]
        )
        for state, new in zip(self.states, states, strict=True):
            state[slots] = new
        self.largest[slots] = largest
        self.total[slots] = total

    def take_last(self, slot: int) -> None:
        """Let the state after the window that was read be the last one that is pooled."""
        self.last[slot] = self.states[-2][slot]

    def pooled(self, slot: int, pooled_tokens: int) -> Pooled:
        """Give last | largest | mean of the outputs of a finished text, (3E,)."""
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


class SlotEngine:
    """Reads texts with every member of an ensemble.

    Law 2: a text's result is bit-identical alone, in any company and in any order.
    Law 4: result *i* belongs to text *i*.
    Law 6: memory is bounded by the slots, for any number of texts and for a text of any length.

    Safe to use from several threads: nothing is kept between runs.

    Attributes:
        members: In whose order results come.
        sessions: Theirs.
    """

    def __init__(self, members: list[Member], sessions: list[EncoderSession]) -> None:
        self.members = members
        self._readings = [(member.direction, member.markers) for member in members]
        self._poolings = [member.pooling for member in members]
        self.sessions = sessions

    def without(self, number: int) -> SlotEngine:
        """Give an engine of all members but one."""
        keep = [other for other in range(len(self.members)) if other != number]
        return SlotEngine([self.members[n] for n in keep], [self.sessions[n] for n in keep])

    def begun(self, number: int) -> MemberStates:
        """Give the states of one member at the beginning of a text, in slot 0 of one."""
        states = MemberStates(self.sessions[number], 1)
        states.clear(0)
        return states

    def run(self, texts: Iterable[TokenizedText], lookahead: int = SLOTS) -> Iterator[list[Pooled]]:
        """Give each text's pooled vectors, one (3E,) float32 a member, in the order of the texts.

        Args:
            texts: As ``run_cascade`` has them.
            lookahead: As ``run_cascade`` has it.
        """
        for pooled in self.run_cascade(texts, lookahead, None):
            yield [vector for vector in pooled if vector is not None]

    def run_cascade(
        self, texts: Iterable[TokenizedText], lookahead: int, first: First | None, tally: Tally | None = None
    ) -> Iterator[list[Pooled | None]]:
        """Give each text's pooled vectors, one (3E,) float32 a member or None if it did not read, in the texts' order.

        A member gives the same bits, whether it reads at once with others or after the first one.

        Args:
            texts: Read as slots fall free, never more than ``lookahead`` ahead of what is in work.
            lookahead: Texts in flight at most, 1..SLOTS. 1 gives each result before the next text is asked for.
            first: Reads alone, and only if that is not enough all others do; else all read at once.
            tally: Adds up what is read.
        """
        slot_count = min(lookahead, SLOTS)
        members: list[MemberStates] = []
        flights: dict[int, _Flight] = {}  # by slot
        free: list[int] = []
        finished: dict[int, list[Pooled | None]] = {}  # by number
        all_members = list(range(len(self.members)))
        source = iter(texts)
        admitted, told, tokens_in_flight = 0, 0, 0
        has_more = True

        while True:
            while has_more and len(flights) < slot_count and admitted - told < _RESULTS_WAITING:
                if flights and tokens_in_flight > _TOKENS_IN_FLIGHT:
                    break
                text = next(source, None)
                if text is None:
                    has_more = False
                    break
                if not free:
                    free, members = self._grow(members, len(flights), slot_count)
                slot = free.pop()
                for member in members:
                    member.clear(slot)
                flights[slot] = self._admitted(admitted, text, [first.member] if first else all_members)
                admitted += 1
                tokens_in_flight += len(text)
            if not flights:
                return
            self._advance_all(members, flights, tally)
            for slot, flight in list(flights.items()):
                if not flight.is_finished:
                    continue
                for number in flight.reading:
                    flight.pooled[number] = members[number].pooled(slot, flight.pooled_tokens[number])
                if first is not None and _is_unsure(flight, first):
                    flight.reading = [number for number in all_members if number != first.member]
                    flight.position = 0
                    continue
                del flights[slot]
                free.append(slot)
                tokens_in_flight -= flight.position
                finished[flight.number] = flight.pooled
            while told in finished:
                yield finished.pop(told)
                told += 1

    def _admitted(self, number: int, text: TokenizedText, reading: list[int]) -> _Flight:
        ids_by_member = [read(text, *order) for order in self._readings]
        flight = _Flight(number, reading, ids_by_member, [], [], [], [None] * len(ids_by_member))
        for pooling, ids in zip(self._poolings, flight.ids_by_member, strict=True):
            flight.pooled_from.append(pooling.first_pooled(len(ids)) if pooling else 0)
            flight.last_pooled.append(pooling.last_pooled(ids) if pooling else len(ids) - 1)
            flight.pooled_tokens.append(pooling.pooled_tokens(ids) if pooling else len(ids))
        return flight

    def _grow(self, members: list[MemberStates], used: int, slot_count: int) -> tuple[list[int], list[MemberStates]]:
        """Give twice the slots, with the states of those in use kept; starts small for a single text."""
        size = min(slot_count, max(8, 2 * used))
        grown = [MemberStates(session, size) for session in self.sessions]
        for old, new in zip(members, grown, strict=False):
            new.largest[:used], new.total[:used], new.last[:used] = old.largest, old.total, old.last
            for old_state, new_state in zip(old.states, new.states, strict=True):
                new_state[:used] = old_state
        return list(range(size - 1, used - 1, -1)), grown

    def _advance_all(self, members: list[MemberStates], flights: dict[int, _Flight], tally: Tally | None) -> None:
        """Advance every text in flight by one window of those members that read it now."""
        by_length = sorted(flights.items(), key=lambda item: (item[1].reading, -item[1].next_window))
        for reading, group in itertools.groupby(by_length, key=lambda item: item[1].reading):
            alike, reading_members = list(group), [members[number] for number in reading]
            for start in range(0, len(alike), BATCH_SLOTS):
                self._advance_batch(reading_members, reading, alike[start : start + BATCH_SLOTS], tally)

    def _advance_batch(
        self, members: list[MemberStates], reading: list[int], batch: Sequence[tuple[int, _Flight]], tally: Tally | None
    ) -> None:
        slots = np.array([slot for slot, _ in batch])
        lengths = np.array([flight.next_window for _, flight in batch], dtype=np.int32)
        if tally is not None:
            tally.needed += len(members) * int(lengths.sum())
            tally.executed += len(members) * int(lengths[0]) * len(batch)
        for number, member in zip(reading, members, strict=True):
            for slot, flight in batch:
                if 0 < flight.position == flight.pooled_from[number]:
                    member.clear_pool(slot)
            ids = np.full((lengths[0], len(batch)), PADDING_ID, dtype=np.int64)
            for column, (_, flight) in enumerate(batch):
                stop = flight.position + lengths[column]
                ids[: lengths[column], column] = flight.ids_by_member[number][flight.position : stop]
            member.advance(slots, ids, lengths)
        for (slot, flight), length in zip(batch, lengths.tolist(), strict=True):
            flight.position += length
            for number, member in zip(reading, members, strict=True):
                if flight.position == flight.last_pooled[number] + 1:
                    member.take_last(slot)


def _is_unsure(flight: _Flight, first: First) -> bool:
    """Whether a text that the first member has read needs the others, which haven't."""
    pooled = flight.pooled[first.member]
    return flight.reading == [first.member] and pooled is not None and not first.is_enough(pooled)
