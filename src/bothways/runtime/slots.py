"""Read any number of texts of any length by continuous batching, with bounded memory.

Input: an iterable of tokenized texts. Output: the pooled vector of each text by each member, in the order of the texts.
This module owns padding at inference. It knows nothing of labels, and passes on what is known before a text is read.

Terms:
    member: One model of the bundle, with its direction.
    sequence: One text that is being read: its token ids in each member's reading order, and how far it has been read.
    slot: One row of the arrays in which every member carries its state. A sequence needs a slot to be read.
    step: Every sequence in a slot advances by one window of tokens, or by several windows if there are few sequences.
    admit: Give a free slot to a new sequence.
    preempt: Take the slot from an unfinished sequence and keep its state.
    resume: Give a free slot to a preempted sequence, which continues where it was.
    evict: Remove an unfinished sequence for good.

A step reads the sequences in batches whose next windows have about equal lengths, so that little padding is computed.
A few sequences, or a single one, advance by several windows per step, because every run of a session has to fetch all
weights from memory. Finished sequences free their slots for waiting texts. A text's arithmetic does not depend on the
other texts in the batch.
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
from bothways.tasks.metrics import Scores
from bothways.text.coverage import Unreadable
from bothways.text.reading import Ids, TokenizedText, read
from bothways.text.tokenizer import PADDING_ID

BATCH_SLOTS = 32
"""Largest number of sequences per step of a server. Batches are smaller for some encoders (``Encoder.batch_texts``)."""
SLOTS = 1024
"""Largest number of slots."""

_MAX_TOKENS = 2_000_000
"""Number of tokens in all slots above which no further text is admitted."""
_MAX_UNDELIVERED = 20_000
"""Largest number of texts that are read ahead of the next result: those in slots, and finished ones whose results wait
for an earlier, longer text."""

Pooled = NDArray[np.float32]


@dataclass(frozen=True)
class Screening:
    """What a model that abstains knows of a text before any token is read.

    Attributes:
        unreadable: Why the model cannot read it; None if it can.
        token_loss: Mean loss of its tokens under their frequencies in the calibration, in nats.
    """

    unreadable: Unreadable | None
    token_loss: float


@dataclass(frozen=True, eq=False)
class PreparedText(TokenizedText):
    """A tokenized text with the scores of a linear member, which are known before any token is read.

    Attributes:
        linear: The scores, (C,) float64; None if the model has no linear member.
        needs_reading: Whether a member has to read it. False if early exit finds the scores of the linear member
            sufficient.
        screening: What the model knows of it already; None if it does not abstain.
    """

    linear: Scores | None = None
    needs_reading: bool = True
    screening: Screening | None = None


@dataclass(frozen=True, eq=False)
class ReadText:
    """What the members found in a text.

    Attributes:
        pooled: One (3E,) float32 vector per member, or None for a member that did not read the text.
        linear: The scores of the linear member, (C,); None if there is none.
        screening: That of the prepared text.
    """

    pooled: Sequence[Pooled | None]
    linear: Scores | None = None
    screening: Screening | None = None


@dataclass(eq=False)
class _Sequence:
    """One text that is being read.

    Attributes:
        number: The caller's number for the text.
        reading: The members that read it now, as their places in the engine.
        ids_by_member: Token ids in each member's reading order.
        pooled_from: For each member, the position of the first token that is pooled.
        last_pooled: For each member, the position of the token whose output is pooled as the last one.
        pooled_tokens: For each member, the number of tokens that are pooled.
        pooled: The pooled vector of each member that has read the text, or None.
        linear: The scores of the linear member, or None.
        screening: That of the prepared text.
        position: Number of tokens that the members in ``reading`` have read.
    """

    number: int
    reading: list[int]
    ids_by_member: list[Ids]
    pooled_from: list[int]
    last_pooled: list[int]
    pooled_tokens: list[int]
    pooled: list[Pooled | None]
    linear: Scores | None = None
    screening: Screening | None = None
    position: int = 0

    def __len__(self) -> int:
        return len(self.ids_by_member[0])

    def next_tokens(self, windows: int = 1) -> int:
        """Return the number of tokens in the next windows.

        They end early at the end of the text, where pooling begins, and where the last output is taken.
        """
        stops = [stop for stop in (*self.pooled_from, *(p + 1 for p in self.last_pooled)) if stop > self.position]
        return min(windows * WINDOW_TOKENS, min([len(self), *stops]) - self.position)

    @property
    def is_finished(self) -> bool:
        return self.position >= len(self)


class MemberStates:
    """The arrays that one member carries from window to window, one row per slot.

    Attributes:
        session: The member's session.
        states: The encoder's state, one array (slots, width) per entry of the session's layout.
        largest: Running maximum of the outputs, (slots, E).
        total: Running sum of the outputs, (slots, E) float64.
        last: The output that is pooled as the last one, (slots, E).
    """

    def __init__(self, session: EncoderSession, slots: int) -> None:
        width = session.layout.output_width
        self.session = session
        self.states = [np.zeros((slots, w), dtype=np.float32) for w in session.layout.state_widths]
        self.largest = np.zeros((slots, width), dtype=np.float32)
        self.total = np.zeros((slots, width), dtype=np.float64)
        self.last = np.zeros((slots, width), dtype=np.float32)

    def extract(self, slot: int) -> MemberStates:
        """Return a copy of one slot, as the only slot of a new object."""
        row = slice(slot, slot + 1)
        other = copy.copy(self)
        other.states = [state[row].copy() for state in self.states]
        other.largest, other.total, other.last = self.largest[row].copy(), self.total[row].copy(), self.last[row].copy()
        return other

    def restore(self, slot: int, extracted: MemberStates) -> None:
        """Copy into a slot what ``extract`` returned."""
        for state, kept in zip(self.states, extracted.states, strict=True):
            state[slot] = kept[0]
        self.largest[slot], self.total[slot] = extracted.largest[0], extracted.total[0]
        self.last[slot] = extracted.last[0]

    def reset(self, slot: int) -> None:
        """Prepare a slot for the beginning of a text."""
        for state in self.states:
            state[slot] = 0
        self.reset_pooling(slot)

    def reset_pooling(self, slot: int) -> None:
        """Discard what has been pooled in a slot."""
        self.largest[slot] = -np.inf
        self.total[slot] = 0

    def advance(self, slots: NDArray[np.intp], ids: NDArray[np.int64], lengths: NDArray[np.int32]) -> None:
        """Read the next tokens of the texts in some slots.

        Args:
            slots: The slots, (B,).
            ids: Token ids, (T, B), with any valid id after the tokens to read.
            lengths: Number of tokens to read in each slot, (B,), each in 1..T.
        """
        states, largest, total = self.session.advance(
            ids, lengths, [state[slots] for state in self.states], self.largest[slots], self.total[slots]
        )
        for state, new in zip(self.states, states, strict=True):
            state[slots] = new
        self.largest[slots] = largest
        self.total[slots] = total

    def take_last(self, slot: int) -> None:
        """Use the output of the token that was read last as the last output to pool."""
        self.last[slot] = self.states[self.session.layout.output_state][slot]

    def pooled(self, slot: int, pooled_tokens: int) -> Pooled:
        """Return the last, largest and mean output of a finished text, concatenated, (3E,)."""
        mean = (self.total[slot] / pooled_tokens).astype(np.float32)
        largest = np.where(np.isneginf(self.largest[slot]), 0, self.largest[slot])  # nothing but typed padding
        return np.concatenate([self.last[slot], largest.astype(np.float32), mean])


@dataclass(frozen=True)
class EarlyExitRule:
    """Which member reads each text first, and when its result suffices.

    Attributes:
        member: The member that reads first, as its place in the engine.
        is_confident: Returns, from that member's pooled vector and the scores of the linear member, whether the other
            members need not read the text.
    """

    member: int
    is_confident: Callable[[Pooled, Scores | None], bool]


@dataclass
class TokenCounts:
    """Numbers of tokens, summed over texts and the members that read them.

    Attributes:
        real: Tokens of the texts.
        computed: Tokens that went through the encoders: the texts' and the padding of their batches.
    """

    real: int = 0
    computed: int = 0


class Slots:
    """The sequences that are being read, step by step. Driven by the caller.

    A preempted and resumed sequence gets the same result as one that was never preempted (guarantee 2).

    Not to be shared between threads. Call ``close`` at the end.

    Attributes:
        tokens: Number of tokens of all sequences in slots. Those of preempted sequences are not included.
    """

    def __init__(
        self,
        engine: SlotEngine,
        max_sequences: int,
        rule: EarlyExitRule | None = None,
        counts: TokenCounts | None = None,
        max_windows: int = BATCH_SLOTS,
    ) -> None:
        """Start without sequences.

        Args:
            engine: The members that read.
            max_sequences: Largest number of sequences in slots, 1 or more.
            rule: When one member suffices. Defaults to all members reading every text.
            counts: Where to add the numbers of tokens that are read. Defaults to nowhere.
            max_windows: Largest number of windows by which a sequence advances per step. With few windows, steps are
                short, and new texts are admitted sooner.
        """
        self._engine, self._max_sequences, self._rule, self._counts = engine, max_sequences, rule, counts
        self._max_windows = max_windows
        self._members: list[MemberStates] = []
        self._sequences: dict[int, _Sequence] = {}  # by slot
        self._preempted: dict[int, tuple[_Sequence, list[MemberStates]]] = {}  # by number
        self._free: list[int] = []
        self._pool = ThreadPoolExecutor(engine.threads, "bothways") if engine.threads > 1 else None
        self.tokens = 0

    def __len__(self) -> int:
        return len(self._sequences)

    @property
    def is_full(self) -> bool:
        """Whether no sequence can be admitted or resumed now."""
        return len(self._sequences) >= self._max_sequences

    def admit(self, number: int, text: TokenizedText) -> None:
        """Admit a text that has to be read to the next step; its result carries ``number``."""
        assert not isinstance(text, PreparedText) or text.needs_reading
        slot = self._free_slot()
        for member in self._members:
            member.reset(slot)
        self._sequences[slot] = self._engine._sequence(number, text, self._rule)
        self.tokens += len(text)

    def preempt(self, numbers: Collection[int]) -> None:
        """Take the slots from unfinished sequences, to be resumed later."""
        for slot in [slot for slot, sequence in self._sequences.items() if sequence.number in numbers]:
            sequence, states = self._sequences[slot], [member.extract(slot) for member in self._members]
            self._release(slot)
            self._preempted[sequence.number] = sequence, states

    def resume(self, number: int) -> None:
        """Admit a preempted sequence to the next step. It continues where it was, to the last bit."""
        slot = self._free_slot()
        sequence, states = self._preempted.pop(number)
        for member, extracted in zip(self._members, states, strict=True):
            member.restore(slot, extracted)
        self._sequences[slot] = sequence
        self.tokens += len(sequence)

    def step(self) -> list[tuple[int, ReadText]]:
        """Advance every sequence in a slot.

        Returns:
            The number of each sequence that has finished, with what was found in it.
        """
        self._read_windows()
        finished = []
        for slot, sequence in list(self._sequences.items()):
            if not sequence.is_finished:
                continue
            for member in sequence.reading:
                sequence.pooled[member] = self._members[member].pooled(slot, sequence.pooled_tokens[member])
            if self._rule is not None and _needs_the_others(sequence, self._rule):
                sequence.reading = [member for member in range(len(self._members)) if member != self._rule.member]
                sequence.position = 0
                continue
            self._release(slot)
            finished.append((sequence.number, ReadText(sequence.pooled, sequence.linear, sequence.screening)))
        return finished

    def evict(self, numbers: Collection[int]) -> None:
        """Remove unfinished sequences, preempted ones included."""
        for number in numbers:
            self._preempted.pop(number, None)
        for slot in [slot for slot, sequence in self._sequences.items() if sequence.number in numbers]:
            self._release(slot)

    def close(self) -> None:
        """Stop the threads."""
        if self._pool is not None:
            self._pool.shutdown()

    def _free_slot(self) -> int:
        assert not self.is_full
        if not self._free:
            self._grow()
        return self._free.pop()

    def _release(self, slot: int) -> None:
        self.tokens -= len(self._sequences.pop(slot))
        self._free.append(slot)

    def _grow(self) -> None:
        """Double the number of slots and keep the states of those in use. A single text needs few."""
        used = len(self._sequences)
        size = min(self._max_sequences, max(8, 2 * used))
        grown = [MemberStates(session, size) for session in self._engine.sessions]
        for old, new in zip(self._members, grown, strict=False):
            new.largest[:used], new.total[:used], new.last[:used] = old.largest, old.total, old.last
            for old_state, new_state in zip(old.states, new.states, strict=True):
                new_state[:used] = old_state
        self._free, self._members = list(range(size - 1, used - 1, -1)), grown

    def _read_windows(self) -> None:
        """Advance every sequence by its next windows, with the members that read it now."""
        most = self._engine.batch_texts
        by_length = sorted(self._sequences.items(), key=lambda item: (item[1].reading, -item[1].next_tokens()))
        batches: list[_Batch] = []
        jobs: list[tuple[int, _Batch]] = []
        for reading, group in itertools.groupby(by_length, key=lambda item: item[1].reading):
            alike = list(group)
            for start in range(0, len(alike), most):
                batch = _Batch.of(alike[start : start + most], most, self._max_windows)
                batches.append(batch)
                jobs += [(member, batch) for member in reading]
                if self._counts is not None:
                    self._counts.real += len(reading) * int(batch.lengths.sum())
                    self._counts.computed += len(reading) * int(batch.lengths.max()) * len(batch.sequences)
        jobs.sort(key=lambda job: job[0])  # one member after the other, while its weights are in the cache
        for _ in (self._pool.map if self._pool else map)(self._read_batch, jobs):
            pass
        for batch in batches:
            for sequence, length in zip(batch.sequences, batch.lengths.tolist(), strict=True):
                sequence.position += length

    def _read_batch(self, job: tuple[int, _Batch]) -> None:
        number, batch = job
        member = self._members[number]
        ids = np.full((batch.lengths.max(), len(batch.sequences)), PADDING_ID, dtype=np.int64)
        for column, (slot, sequence) in enumerate(zip(batch.slots, batch.sequences, strict=True)):
            stop = sequence.position + batch.lengths[column]
            ids[: batch.lengths[column], column] = sequence.ids_by_member[number][sequence.position : stop]
            if 0 < sequence.position == sequence.pooled_from[number]:
                member.reset_pooling(slot)
        member.advance(batch.slots, ids, batch.lengths)
        for slot, sequence, length in zip(batch.slots, batch.sequences, batch.lengths, strict=True):
            if sequence.position + length == sequence.last_pooled[number] + 1:
                member.take_last(slot)


@dataclass(frozen=True)
class _Batch:
    """Sequences whose next windows are read at once.

    Attributes:
        slots: Their slots, (B,).
        sequences: The sequences.
        lengths: Number of tokens to read of each, (B,).
    """

    slots: NDArray[np.intp]
    sequences: list[_Sequence]
    lengths: NDArray[np.int32]

    @classmethod
    def of(cls, items: Sequence[tuple[int, _Sequence]], most: int, max_windows: int) -> _Batch:
        """Return a batch of one window of each sequence, or of several windows if there are fewer than ``most``.

        There are never more windows than the shortest sequence has left.
        """
        sequences = [sequence for _, sequence in items]
        windows = min(max_windows, most // len(sequences))
        shortest = min(sequence.next_tokens(windows) for sequence in sequences)
        lengths = [sequence.next_tokens(math.ceil(shortest / WINDOW_TOKENS)) for sequence in sequences]
        return cls(np.array([slot for slot, _ in items]), sequences, np.array(lengths, dtype=np.int32))


class SlotEngine:
    """Read texts with every member of an ensemble.

    Guarantee 2: batching never changes a result. It is bit-identical alone, in any batch and in any order.
    Guarantee 4: result *i* belongs to text *i*.
    Guarantee 6: memory is bounded by the slots, for any number of texts and for a text of any length.

    Safe to use from several threads: nothing is kept between runs.

    Attributes:
        members: The members, in the order of the results.
        sessions: The session of each member.
        threads: Number of batches that are read at the same time.
        batch_texts: Largest number of sequences per batch, or of windows if there are fewer sequences.
    """

    def __init__(self, members: list[Member], sessions: list[EncoderSession], threads: int = 1) -> None:
        self.members = members
        self.sessions = sessions
        self.threads = threads
        self.batch_texts = min((session.batch_texts for session in sessions), default=BATCH_SLOTS)

    def without(self, member: int) -> SlotEngine:
        """Return an engine of all members but one."""
        keep = [other for other in range(len(self.members)) if other != member]
        return SlotEngine([self.members[n] for n in keep], [self.sessions[n] for n in keep], self.threads)

    def without_reading(self, text: TokenizedText) -> ReadText | None:
        """Return the result of a text that no member has to read, or None if it has to be read in a slot."""
        if not isinstance(text, PreparedText) or text.needs_reading:
            return None
        return ReadText([None] * len(self.members), text.linear, text.screening)

    def initial_states(self, member: int) -> MemberStates:
        """Return the states of one member at the beginning of a text, with a single slot."""
        states = MemberStates(self.sessions[member], 1)
        states.reset(0)
        return states

    def run(self, texts: Iterable[TokenizedText], lookahead: int = SLOTS) -> Iterator[list[Pooled]]:
        """Yield the pooled vectors of each text, in the order of the texts.

        Args:
            texts: As for ``run_early_exit``.
            lookahead: As for ``run_early_exit``. Defaults to the largest.

        Yields:
            One (3E,) float32 vector per member.
        """
        for found in self.run_early_exit(texts, lookahead, None):
            yield [vector for vector in found.pooled if vector is not None]

    def run_early_exit(
        self,
        texts: Iterable[TokenizedText],
        lookahead: int,
        rule: EarlyExitRule | None,
        counts: TokenCounts | None = None,
    ) -> Iterator[ReadText]:
        """Yield what is found in each text, in the order of the texts, with early exit.

        A member's result has the same bits whether it reads together with the others or after the first one.

        Args:
            texts: Texts to read. They are consumed as slots become free, so never more than ``lookahead`` unfinished
                texts are held. Those that no member has to read get no slot.
            lookahead: Largest number of sequences in slots, 1..SLOTS, and of texts that are consumed per step. With 1,
                each result is yielded before the next text is consumed.
            rule: Which member reads first, and when the others need not read. If None, all members read every text.
            counts: Where to add the numbers of tokens that are read. Defaults to nowhere.

        Yields:
            The pooled vectors, and the scores of the linear member if the text has them.
        """
        finished: dict[int, ReadText] = {}  # by number
        source = iter(texts)
        admitted, yielded = 0, 0
        has_more, max_sequences = True, min(lookahead, SLOTS)
        with closing(Slots(self, max_sequences, rule, counts)) as slots:
            while True:
                most = min(admitted + max_sequences, yielded + _MAX_UNDELIVERED)
                while has_more and not slots.is_full and admitted < most:
                    if len(slots) and slots.tokens > _MAX_TOKENS:
                        break
                    text = next(source, None)
                    if text is None:
                        has_more = False
                        break
                    found = self.without_reading(text)
                    if found is None:
                        slots.admit(admitted, text)
                    else:
                        finished[admitted] = found
                    admitted += 1
                if len(slots):
                    finished |= slots.step()
                while yielded in finished:
                    yield finished.pop(yielded)
                    yielded += 1
                if not has_more and not len(slots):
                    return

    def _sequence(self, number: int, text: TokenizedText, rule: EarlyExitRule | None) -> _Sequence:
        """Return the sequence of a text, at its beginning."""
        ids_by_member = [read(text, member.direction, member.special_tokens) for member in self.members]
        reading = [rule.member] if rule else list(range(len(self.members)))
        sequence = _Sequence(number, reading, ids_by_member, [], [], [], [None] * len(ids_by_member))
        if isinstance(text, PreparedText):
            sequence.linear, sequence.screening = text.linear, text.screening
        for member, ids in zip(self.members, ids_by_member, strict=True):
            pooling = member.pooling
            sequence.pooled_from.append(pooling.first_pooled(len(ids)) if pooling else 0)
            sequence.last_pooled.append(pooling.last_pooled(ids) if pooling else len(ids) - 1)
            sequence.pooled_tokens.append(pooling.pooled_tokens(ids) if pooling else len(ids))
        return sequence


def _needs_the_others(sequence: _Sequence, rule: EarlyExitRule) -> bool:
    """Return whether the first member alone has read a text and is not confident."""
    pooled = sequence.pooled[rule.member]
    return sequence.reading == [rule.member] and pooled is not None and not rule.is_confident(pooled, sequence.linear)
