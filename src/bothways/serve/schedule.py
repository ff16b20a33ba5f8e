"""Decide which requests can be answered before their deadlines, and whose texts are read next.

Requests are grouped by size: up to 256 tokens, up to 2,048, and so on, by factors of 8. The groups with waiting texts
have equal shares of each step, and within a group the earliest deadline is first. So a short text never waits for the
end of long texts, long texts always advance, and texts of similar length are finished one after the other instead of
all at the same late time. A text's place can only be taken by a text of a request with an earlier deadline or of
another group.

Not safe for use by several threads: the caller locks.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_right, insort
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from bothways.runtime.prediction import Prediction
from bothways.runtime.sessions import WINDOW_TOKENS
from bothways.runtime.slots import BATCH_SLOTS
from bothways.serve.speed import EFFICIENT_TEXTS, ReadingSpeed, steps_of
from bothways.text.reading import TokenizedText

_GROUPS = 6
_FEWEST_TEXTS = 4
"""Texts that a step reads although one of them will be late. Fewer would slow down all others."""
_MARGIN = 1.25
"""Factor on predicted times, because texts differ and the machine's speed varies."""


@dataclass(eq=False)
class QueuedText:
    """A text without a prediction.

    Attributes:
        request: The request of the text.
        position: Its position in the request.
        text: The tokens.
        work: The time that each of its steps adds to a batch, as ``ReadingSpeed.work``.
        steps_left: The number of steps until it is finished, 1 or more.
        number: Its number in the slots, or None before it was admitted to one.
    """

    request: PendingRequest
    position: int
    text: TokenizedText
    work: float
    steps_left: int
    number: int | None = None


@dataclass(eq=False)
class PendingRequest:
    """A request that has been accepted.

    Attributes:
        deadline_s: The deadline on the monotonic clock. Reading stops when it passes.
        tokens: The number of tokens without a prediction. An estimate until the texts are tokenized.
        texts: The number of texts that have to be read.
        longest_steps: The number of steps that its longest text needs.
        work: The time that its texts add to batches, as ``ReadingSpeed.work``.
        tail: The time by which it takes longer than that, because its longest text needs many steps.
        answer: The predictions in the order of the texts, or the error that prevented them.
        started_s: When the first text was admitted to a slot, on the monotonic clock. None before that.
        predictions: The predictions of the texts that have been read, or need no reading, by the position of the text.
        unread: The texts without a prediction by their position. Empty until the texts are tokenized.
        group: The group of requests of similar size.
        is_scheduled: Whether the request is in the schedule.
    """

    deadline_s: float
    tokens: int = 0
    texts: int = 0
    longest_steps: int = 0
    work: float = 0.0
    tail: float = 0.0
    answer: Future[list[Prediction]] = field(default_factory=Future)
    started_s: float | None = None
    predictions: dict[int, Prediction] = field(default_factory=dict)
    unread: dict[int, QueuedText] = field(default_factory=dict)
    group: int = 0
    is_scheduled: bool = False


@dataclass(frozen=True)
class Forecast:
    """When a request would be answered if it were accepted.

    Attributes:
        wait_s: Seconds to read the texts of other requests that are read before it.
        finish_s: Seconds until the request is answered.
        excess_s: Seconds by which it, or a request that it would delay, would miss its deadline. At most 0 if none
            would.
    """

    wait_s: float
    finish_s: float
    excess_s: float


@dataclass(eq=False)
class _Group:
    requests: list[PendingRequest] = field(default_factory=list)  # by deadline
    work: float = 0.0

    def texts(self) -> Iterator[QueuedText]:
        for request in self.requests:
            yield from itertools.islice(request.unread.values(), BATCH_SLOTS)


class Schedule:
    """The requests that wait or are being read, in the order in which they are served."""

    def __init__(self, speed: ReadingSpeed) -> None:
        self._speed = speed
        self._groups = [_Group() for _ in range(_GROUPS)]

    def __iter__(self) -> Iterator[PendingRequest]:
        return itertools.chain.from_iterable(group.requests for group in self._groups)

    def __len__(self) -> int:
        return sum(len(group.requests) for group in self._groups)

    @property
    def has_texts(self) -> bool:
        """Whether there are texts that can be read: those of some request are tokenized."""
        return any(request.unread for request in self)

    @property
    def seconds(self) -> float:
        """The predicted time to read all texts."""
        return self._speed.factor * sum(group.work for group in self._groups)

    def set_size(self, request: PendingRequest, lengths: Sequence[int]) -> None:
        """Set the size of a request that is not in the schedule, from the number of tokens of each text."""
        steps = [math.ceil(length / WINDOW_TOKENS) for length in lengths]
        request.tokens, request.texts, request.longest_steps = sum(lengths), len(lengths), max(steps, default=0)
        request.work = self._speed.work(request.tokens, sum(steps))
        request.tail = self._tail(request, EFFICIENT_TEXTS)
        eighths = max(0, sum(steps) - 1) // 8
        request.group = min(_GROUPS - 1, math.ceil(eighths.bit_length() / 3))

    def add(self, request: PendingRequest) -> None:
        """Add a request whose size is known or estimated."""
        group = self._groups[request.group]
        insort(group.requests, request, key=_deadline)
        group.work += request.work
        request.is_scheduled = True

    def set_texts(self, request: PendingRequest, texts: Mapping[int, TokenizedText]) -> None:
        """Set the texts of a request that is in the schedule, by their position. They can be read from now on."""
        self.remove(request)
        self.set_size(request, [len(text) for text in texts.values()])
        for position, text in texts.items():
            steps = steps_of(text)
            work = self._speed.work(len(text), steps) / steps
            request.unread[position] = QueuedText(request, position, text, work, steps)
        self.add(request)

    def remove(self, request: PendingRequest) -> None:
        """Remove a request, if it has not been removed already."""
        if request.is_scheduled:
            group = self._groups[request.group]
            group.requests.remove(request)
            group.work = group.work - request.work if group.requests else 0.0
            request.is_scheduled = False

    def advance(self, text: QueuedText) -> None:
        """Record that a text has been read for a step."""
        if text.steps_left > 1:
            text.steps_left -= 1
            self._reduce(text.request, text.work)

    def finish(self, text: QueuedText) -> None:
        """Record that a text has been read."""
        request = text.request
        del request.unread[text.position]
        request.tokens -= len(text.text)
        self._reduce(request, text.work * text.steps_left)

    def _reduce(self, request: PendingRequest, work: float) -> None:
        request.work -= work
        if request.is_scheduled:
            self._groups[request.group].work -= work

    def forecast(self, request: PendingRequest, now_s: float) -> Forecast:
        """Return when a request that is not in the schedule would be answered.

        In a group, only requests with an earlier or the same deadline are read before it. By the time at which they
        have been read, each of the other groups has been read for as long, or to its end.
        """
        factor, own = self._speed.factor, self._groups[request.group]
        behind = own.requests[bisect_right(own.requests, request.deadline_s, key=_deadline) :]
        before = own.work - sum([other.work for other in behind])
        others = [group.work for group in self._groups if group is not own and group.requests]
        wait_s = factor * (before + sum(min(before + request.work, other) for other in others))
        finish_s = wait_s + factor * (request.work + self._tail(request, len(self) + request.texts))
        excess_s = _MARGIN * finish_s - (request.deadline_s - now_s)
        delay_s = _MARGIN * factor * request.work * (1 + len(others))
        least_spare_s = math.inf
        for other in behind:  # there can be thousands
            before += other.work
            work = before + sum([min(before, work) for work in others]) if others else before
            spare_s = other.deadline_s - now_s - _MARGIN * factor * (work + other.tail)
            if 0 <= spare_s < least_spare_s:  # below 0, it is late anyway
                least_spare_s = spare_s
        return Forecast(wait_s, finish_s, max(excess_s, delay_s - least_spare_s))

    def _tail(self, request: PendingRequest, texts: int) -> float:
        """Return the time by which a request takes longer than its work, because its longest text needs many steps.

        Args:
            request: The request.
            texts: The number of texts that are read together, if there are slots.

        Returns:
            Seconds at the speed of loading, as ``ReadingSpeed.work``.
        """
        texts = min(EFFICIENT_TEXTS, texts)
        longest = request.longest_steps * self._speed.step_s(texts * WINDOW_TOKENS) / self._speed.factor
        together = min(1, request.texts / texts)  # the share of its own texts in the steps of the longest one
        return max(longest - request.work, (1 - together) * longest)

    def hopeless(self, now_s: float) -> list[PendingRequest]:
        """Return the requests whose deadline has passed, and those that can't be read before it while others wait."""
        found = []
        are_several = len(self) > 1
        for group in self._groups:
            for request in group.requests[:BATCH_SLOTS]:
                left_s = request.deadline_s - now_s
                if left_s < 0 or (are_several and self._fastest_s(request) > left_s):
                    found.append(request)
        return found

    def next_texts(self, now_s: float) -> list[QueuedText]:
        """Return the texts to read in the next step, at most as many as there are slots.

        With more texts, a step takes longer. So there are only as many texts as can all be finished before their
        deadlines, but at least ``_FEWEST_TEXTS``.
        """
        chosen: list[QueuedText] = []
        tokens, longest_step_s = 0, math.inf
        for text in itertools.islice(
            _in_turns([group.texts() for group in self._groups if group.requests]), BATCH_SLOTS
        ):
            tokens += min(len(text.text), WINDOW_TOKENS)
            if len(chosen) >= _FEWEST_TEXTS and self._speed.step_s(tokens) > longest_step_s:
                break
            chosen.append(text)
            left_s = text.request.deadline_s - now_s
            longest_step_s = min(longest_step_s, left_s / (_MARGIN * text.steps_left))
        return chosen

    def _fastest_s(self, request: PendingRequest) -> float:
        """Return the seconds to read the rest of a request together with few others."""
        if request.started_s is None:
            texts = min(EFFICIENT_TEXTS, len(self) + request.texts)
            return request.longest_steps * self._speed.step_s(texts * WINDOW_TOKENS)
        steps = max(text.steps_left for text in itertools.islice(request.unread.values(), BATCH_SLOTS))
        return steps * self._speed.step_s(WINDOW_TOKENS)


def _deadline(request: PendingRequest) -> float:
    return request.deadline_s


def _in_turns(sources: Sequence[Iterator[QueuedText]]) -> Iterator[QueuedText]:
    """Yield a text of each source in turn, until all are exhausted."""
    for turn in itertools.zip_longest(*sources):
        yield from (text for text in turn if text is not None)
