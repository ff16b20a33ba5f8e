"""Read the texts of all requests in one continuous batch.

Input: tokenized texts of requests, from any thread. Output: their predictions. One thread drives the slots and admits
texts between two steps (``runtime/slots.py`` defines the terms). One queue holds everything that needs a slot: requests
with texts that were not admitted yet, one text at a time, and preempted texts. While something waits, a text that has
held its slot for a time slice is preempted and queued again. So short texts wait for time slices, never for the end of
long texts. The number of tokens that wait or are being read is bounded. This module knows nothing of HTTP.
"""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field

from bothways.errors import DeadlinePassed, Overloaded, RequestTooLarge, Unavailable
from bothways.runtime.classifier import Classifier
from bothways.runtime.prediction import Prediction
from bothways.runtime.slots import BATCH_SLOTS, Slots, TokenCounts
from bothways.text.reading import TokenizedText

_FIRST_TOKENS_PER_S = 1000.0
"""Taken for the speed until it was measured."""
_WEIGHT_OF_NEWEST = 0.2
_LONGEST_RETRY_S = 600
_TIME_SLICE_STEPS = 8
"""Number of steps for which a text keeps its slot. Most texts finish within it, and the copies that preemption makes
take little time compared to it."""


class ModelLeft(Unavailable):
    """The model was asked after another had taken its place: ask that one."""


@dataclass(eq=False)
class Ticket:
    """The texts of one request.

    Attributes:
        texts: In the request's order.
        deadline_s: On the monotonic clock; nothing is read for it afterwards.
        answer: The predictions, in the order of the texts; or ``DeadlinePassed`` or ``Unavailable``.
        started_s: When the first of its texts was admitted to a slot; None before.
    """

    texts: Sequence[TokenizedText]
    deadline_s: float
    answer: Future[list[Prediction]] = field(default_factory=Future)
    started_s: float | None = None
    predictions: dict[int, Prediction] = field(default_factory=dict)
    admitted: int = 0

    @property
    def tokens_left(self) -> int:
        """Tokens of all texts that have no prediction."""
        return sum(len(text) for place, text in enumerate(self.texts) if place not in self.predictions)


class Batcher:
    """One model's running batch, and the thread that reads it.

    Guarantee 8: a request's predictions are those of ``model.predict``, to the last bit, under any load.

    Attributes:
        model: Which reads.
        most_tokens: Of all texts that wait or are read, at most.
        token_counts: Tokens read so far.
    """

    def __init__(self, model: Classifier, most_tokens: int) -> None:
        """Start the thread."""
        self.model, self.most_tokens = model, most_tokens
        self.token_counts = TokenCounts()
        self._changed = threading.Condition()
        self._queue: deque[Ticket | int] = deque()  # requests with texts to admit, and numbers of preempted texts
        self._unanswered: set[Ticket] = set()
        self._tokens = 0
        self._tokens_per_s = _FIRST_TOKENS_PER_S
        self._is_closing = False
        self._numbers = itertools.count()
        self._places: dict[int, tuple[Ticket, int]] = {}  # of unfinished texts, by number; for the thread only
        self._thread = threading.Thread(target=self._run, name="bothways-batch", daemon=True)
        self._thread.start()

    @property
    def tokens(self) -> int:
        """Tokens of the texts that wait or are being read, and those that room is kept for."""
        return self._tokens

    @property
    def texts_in_flight(self) -> int:
        """Number of texts that were admitted and are not finished, preempted ones included."""
        return len(self._places)

    def submit(self, texts: Sequence[TokenizedText], deadline_s: float) -> Ticket:
        """Take the texts of a request.

        Raises:
            RequestTooLarge: They have more tokens than the queue would ever hold.
            Overloaded: They have more tokens than the queue has room for now.
            ModelLeft: Another model has taken its place, or the end has begun.
        """
        ticket = Ticket(texts, deadline_s)
        tokens = ticket.tokens_left
        if not texts:
            ticket.answer.set_result([])
            return ticket
        if tokens > self.most_tokens:
            raise RequestTooLarge(f"the texts have {tokens} tokens, the limit is {self.most_tokens} (max-queue-tokens)")
        with self._changed:
            if self._is_closing:
                raise ModelLeft("the model is being unloaded: retry")
            self._take_room(tokens)
            self._queue.append(ticket)
            self._unanswered.add(ticket)
            self._changed.notify()
        return ticket

    @contextmanager
    def room(self, tokens: int) -> Iterator[None]:
        """Keep room for so many tokens, while those of a request are not counted yet.

        Raises:
            Overloaded: The queue has no room for them now.
        """
        with self._changed:
            self._take_room(tokens)
        try:
            yield
        finally:
            with self._changed:
                self._tokens -= tokens

    def cancel(self, ticket: Ticket) -> None:
        """Read no more for a request whose client has left."""
        ticket.answer.cancel()

    def close(self, timeout_s: float | None = None) -> None:
        """Take no more requests, answer those that were taken, and end; when the time is over, refuse what is left."""
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        self._thread.join(timeout_s)
        with self._changed:
            for ticket in self._unanswered:
                _refuse(ticket, Unavailable("the model was unloaded before the request finished; retry"))

    def _take_room(self, tokens: int) -> None:
        if self._tokens + tokens > self.most_tokens:
            raise Overloaded(
                f"the queue holds {self._tokens} of {self.most_tokens} tokens, and the request has {tokens}",
                self._seconds_until_room(tokens),
            )
        self._tokens += tokens

    def _seconds_until_room(self, tokens: int) -> int:
        seconds = (self._tokens + tokens - self.most_tokens) / self._tokens_per_s
        return min(_LONGEST_RETRY_S, max(1, math.ceil(seconds)))

    def _run(self) -> None:
        while True:
            with closing(self.model.slots(BATCH_SLOTS, self.token_counts)) as slots:
                try:
                    self._read(slots)
                except Exception as error:  # noqa: BLE001  (whatever it is, the requests of this batch are told)
                    self._refuse_all(error)
                else:
                    return

    def _read(self, slots: Slots) -> None:
        """Read until the model leaves and nothing is left to read."""
        while True:
            with self._changed:
                while not self._unanswered:
                    if self._is_closing:
                        return
                    self._changed.wait()
                self._evict_answered(slots)
                self._fill(slots)
            if not len(slots):
                continue
            started, before = time.perf_counter(), self.token_counts.real
            finished = slots.step()
            self._measure((self.token_counts.real - before) / (time.perf_counter() - started))
            for number, pooled in finished:
                ticket, place = self._places.pop(number)
                self._tell(ticket, place, self.model.prediction(pooled))

    def _evict_answered(self, slots: Slots) -> None:
        """Evict the texts of requests that were canceled or whose deadline has passed."""
        now = time.monotonic()
        for ticket in self._unanswered:
            if now > ticket.deadline_s:
                _refuse(ticket, DeadlinePassed("the deadline passed before all texts were classified"))
        done = {ticket for ticket in self._unanswered if ticket.answer.done()}
        if not done:
            return
        numbers = {number for number, (ticket, _) in self._places.items() if ticket in done}
        slots.evict(numbers)
        for number in numbers:
            del self._places[number]
        self._unanswered -= done
        self._queue = deque(waiting for waiting in self._queue if waiting not in done and waiting not in numbers)
        self._tokens -= sum(ticket.tokens_left for ticket in done)

    def _fill(self, slots: Slots) -> None:
        """Assign slots to the head of the queue; preempt texts whose time slice is over if too few slots are free."""
        missing = len(self._queue) - (BATCH_SLOTS - len(slots))
        preempted = slots.preempt(missing, _TIME_SLICE_STEPS) if missing > 0 else []
        while self._queue and not slots.is_full:
            waiting = self._queue.popleft()
            if isinstance(waiting, int):
                slots.resume(waiting)
                continue
            waiting.started_s = waiting.started_s or time.monotonic()
            number = next(self._numbers)
            slots.admit(number, waiting.texts[waiting.admitted])
            self._places[number] = (waiting, waiting.admitted)
            waiting.admitted += 1
            if waiting.admitted < len(waiting.texts):
                self._queue.append(waiting)
        self._queue.extend(preempted)

    def _tell(self, ticket: Ticket, place: int, prediction: Prediction) -> None:
        with self._changed:
            if ticket not in self._unanswered:
                return
            ticket.predictions[place] = prediction
            self._tokens -= len(ticket.texts[place])
            if len(ticket.predictions) < len(ticket.texts):
                return
            self._unanswered.discard(ticket)
        with suppress(InvalidStateError):  # its client left in this moment
            ticket.answer.set_result([ticket.predictions[place] for place in range(len(ticket.texts))])

    def _refuse_all(self, error: Exception) -> None:
        with self._changed:
            for ticket in self._unanswered:
                _refuse(ticket, error)
            self._places.clear()
            self._queue.clear()
            self._tokens -= sum(ticket.tokens_left for ticket in self._unanswered)
            self._unanswered.clear()

    def _measure(self, tokens_per_s: float) -> None:
        self._tokens_per_s += _WEIGHT_OF_NEWEST * (tokens_per_s - self._tokens_per_s)


def _refuse(ticket: Ticket, error: Exception) -> None:
    with suppress(InvalidStateError):
        ticket.answer.set_exception(error)
