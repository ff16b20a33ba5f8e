"""Read the texts of all requests in one running batch.

In: tokenized texts of requests, from any thread. Out: their predictions. One thread drives the slots, and texts join
between two windows. Whoever wants a slot stands in one line: requests with texts that have not begun, one text at a
turn, and texts that were parked. While somebody waits, a text that has had its turn of windows gives up its slot and
stands in line again: short texts wait for turns, never for the end of long ones. What waits and what is read is
bounded in tokens. Does not know HTTP.
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
from bothways.runtime.slots import BATCH_SLOTS, Slots, Tally
from bothways.text.reading import TokenizedText

_FIRST_TOKENS_PER_S = 1000.0
"""Taken for the speed until it was measured."""
_WEIGHT_OF_NEWEST = 0.2
_LONGEST_RETRY_S = 600
_TURN_WINDOWS = 8
"""A turn lasts at least so long: most texts are read in one, and what parking copies is little beside it."""


class ModelLeft(Unavailable):
    """The model was asked after another had taken its place: ask that one."""


@dataclass(eq=False)
class Ticket:
    """Texts of one request on their way.

    Attributes:
        texts: In the request's order.
        deadline_s: On the monotonic clock; nothing is read for it afterwards.
        answer: The predictions, in the order of the texts; or ``DeadlinePassed`` or ``Unavailable``.
        started_s: When the first of its texts joined the batch; None before.
    """

    texts: Sequence[TokenizedText]
    deadline_s: float
    answer: Future[list[Prediction]] = field(default_factory=Future)
    started_s: float | None = None
    predictions: dict[int, Prediction] = field(default_factory=dict)
    begun: int = 0

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
        tally: Tokens read so far.
    """

    def __init__(self, model: Classifier, most_tokens: int) -> None:
        """Start the thread."""
        self.model, self.most_tokens = model, most_tokens
        self.tally = Tally()
        self._changed = threading.Condition()
        self._line: deque[Ticket | int] = deque()  # requests with texts that have not begun, and parked texts' numbers
        self._unanswered: set[Ticket] = set()
        self._tokens = 0
        self._tokens_per_s = _FIRST_TOKENS_PER_S
        self._is_closing = False
        self._numbers = itertools.count()
        self._places: dict[int, tuple[Ticket, int]] = {}  # of texts in flight, by number; the thread's own
        self._thread = threading.Thread(target=self._run, name="bothways-batch", daemon=True)
        self._thread.start()

    @property
    def tokens(self) -> int:
        """Tokens of the texts that wait or are being read, and those that room is kept for."""
        return self._tokens

    @property
    def texts_in_flight(self) -> int:
        """Texts that have begun and not ended, parked ones included."""
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
            self._line.append(ticket)
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
            with closing(self.model.slots(BATCH_SLOTS, self.tally)) as slots:
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
                self._drop_dead(slots)
                self._take_turns(slots)
            if not len(slots):
                continue
            started, before = time.perf_counter(), self.tally.needed
            ended = slots.advance()
            self._measure((self.tally.needed - before) / (time.perf_counter() - started))
            for number, pooled in ended:
                ticket, place = self._places.pop(number)
                self._tell(ticket, place, self.model.prediction(pooled))

    def _drop_dead(self, slots: Slots) -> None:
        """Forget requests whose client left, or whose deadline has passed."""
        now = time.monotonic()
        for ticket in self._unanswered:
            if now > ticket.deadline_s:
                _refuse(ticket, DeadlinePassed("the deadline passed before all texts were classified"))
        dead = {ticket for ticket in self._unanswered if ticket.answer.done()}
        if not dead:
            return
        numbers = {number for number, (ticket, _) in self._places.items() if ticket in dead}
        slots.drop(numbers)
        for number in numbers:
            del self._places[number]
        self._unanswered -= dead
        self._line = deque(waiting for waiting in self._line if waiting not in dead and waiting not in numbers)
        self._tokens -= sum(ticket.tokens_left for ticket in dead)

    def _take_turns(self, slots: Slots) -> None:
        """Let those at the head of the line have slots; if there are too few, of texts that have had their turn."""
        free = BATCH_SLOTS - len(slots)
        parked = slots.park(len(self._line) - free, _TURN_WINDOWS) if len(self._line) > free else []
        while self._line and not slots.is_full:
            waiting = self._line.popleft()
            if isinstance(waiting, int):
                slots.resume(waiting)
                continue
            waiting.started_s = waiting.started_s or time.monotonic()
            number = next(self._numbers)
            slots.join(number, waiting.texts[waiting.begun])
            self._places[number] = (waiting, waiting.begun)
            waiting.begun += 1
            if waiting.begun < len(waiting.texts):
                self._line.append(waiting)
        self._line.extend(parked)

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
            self._line.clear()
            self._tokens -= sum(ticket.tokens_left for ticket in self._unanswered)
            self._unanswered.clear()

    def _measure(self, tokens_per_s: float) -> None:
        self._tokens_per_s += _WEIGHT_OF_NEWEST * (tokens_per_s - self._tokens_per_s)


def _refuse(ticket: Ticket, error: Exception) -> None:
    with suppress(InvalidStateError):
        ticket.answer.set_exception(error)
