"""Read the texts of all requests in one continuous batch.

Input: tokenized texts of requests, from any thread. Output: their predictions. One thread drives the slots and admits
texts between two steps (``runtime/slots.py`` defines the terms). One queue holds everything that needs a slot: requests
with texts that are not admitted yet, one text at a time, and preempted texts. While the queue is not empty, a text that
has held its slot for a time slice is preempted and queued again. So short texts wait for time slices, never for the end
of long texts. The number of tokens that wait or are being read is bounded. This module does not depend on HTTP.
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

_INITIAL_TOKENS_PER_S = 1000.0
"""Reading speed to assume until it has been measured."""
_NEWEST_WEIGHT = 0.2
"""Weight of the newest measurement in the moving average of the reading speed."""
_MAX_RETRY_S = 600
_TIME_SLICE_STEPS = 8
"""Number of steps for which a text keeps its slot. Most texts finish within it, and the copies that preemption makes
take little time compared to it."""


class ModelUnloaded(Unavailable):
    """The model is being unloaded. The request can be repeated with the model that replaces it."""


@dataclass(eq=False)
class PendingRequest:
    """A request that has been accepted.

    Attributes:
        texts: The tokenized texts, in the order of the request.
        deadline_s: The deadline on the monotonic clock. Reading stops when it passes.
        answer: The predictions in the order of the texts, or the error that prevented them.
        started_s: When the first text was admitted to a slot, on the monotonic clock. None before that.
        predictions: The predictions of the texts that have been read, by the position of the text.
        admitted: The number of texts that have been admitted.
    """

    texts: Sequence[TokenizedText]
    deadline_s: float
    answer: Future[list[Prediction]] = field(default_factory=Future)
    started_s: float | None = None
    predictions: dict[int, Prediction] = field(default_factory=dict)
    admitted: int = 0

    @property
    def tokens_left(self) -> int:
        """The number of tokens of the texts without a prediction."""
        return sum(len(text) for position, text in enumerate(self.texts) if position not in self.predictions)


class Batcher:
    """The running batch of one model, and the thread that reads it.

    Guarantee 8: the predictions of a request are bit-identical to those of ``model.predict``, under any load.

    Attributes:
        model: The model that reads the texts.
        max_tokens: The maximum number of tokens waiting or being read.
        token_counts: The numbers of tokens read so far.
    """

    def __init__(self, model: Classifier, max_tokens: int) -> None:
        """Start the thread."""
        self.model, self.max_tokens = model, max_tokens
        self.token_counts = TokenCounts()
        self._changed = threading.Condition()
        self._queue: deque[PendingRequest | int] = deque()  # requests with texts to admit, numbers of preempted texts
        self._unanswered: set[PendingRequest] = set()
        self._tokens = 0
        self._tokens_per_s = _INITIAL_TOKENS_PER_S
        self._is_closing = False
        self._numbers = itertools.count()
        # The request and the position of each unfinished text, by the number of the text. Only the thread changes it.
        self._in_progress: dict[int, tuple[PendingRequest, int]] = {}
        self._thread = threading.Thread(target=self._run, name="bothways-batch", daemon=True)
        self._thread.start()

    @property
    def tokens(self) -> int:
        """The number of tokens of the texts waiting or being read, including reserved tokens."""
        return self._tokens

    @property
    def tokens_per_s(self) -> float:
        """The measured reading speed."""
        return self._tokens_per_s

    @property
    def texts_in_progress(self) -> int:
        """The number of texts that have been admitted and are not finished, including preempted ones."""
        return len(self._in_progress)

    def submit(self, texts: Sequence[TokenizedText], deadline_s: float) -> PendingRequest:
        """Accept the texts of a request.

        Args:
            texts: The tokenized texts.
            deadline_s: The deadline on the monotonic clock.

        Raises:
            RequestTooLarge: The texts have more tokens than an empty queue can hold.
            Overloaded: The queue has no room for the texts at the moment.
            ModelUnloaded: The model is being unloaded.
        """
        request = PendingRequest(texts, deadline_s)
        tokens = request.tokens_left
        if not texts:
            request.answer.set_result([])
            return request
        if tokens > self.max_tokens:
            raise RequestTooLarge(f"the texts have {tokens} tokens, the limit is {self.max_tokens} (max-queue-tokens)")
        with self._changed:
            if self._is_closing:
                raise ModelUnloaded("the model is being unloaded: retry")
            self._add_tokens(tokens)
            self._queue.append(request)
            self._unanswered.add(request)
            self._changed.notify()
        return request

    @contextmanager
    def reserve(self, tokens: int) -> Iterator[None]:
        """Reserve room in the queue while a request is being tokenized, before its exact size is known.

        Args:
            tokens: The estimated number of tokens of the request.

        Raises:
            Overloaded: The queue has no room for this number of tokens at the moment.
        """
        with self._changed:
            self._add_tokens(tokens)
        try:
            yield
        finally:
            with self._changed:
                self._tokens -= tokens

    def cancel(self, request: PendingRequest) -> None:
        """Stop reading for a request whose client has disconnected."""
        request.answer.cancel()

    def close(self, timeout_s: float | None = None) -> None:
        """Reject new requests, answer those that were accepted, and end the thread.

        Args:
            timeout_s: Seconds after which the requests that are not answered fail with ``Unavailable``. Defaults to no
                limit.
        """
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        self._thread.join(timeout_s)
        with self._changed:
            for request in self._unanswered:
                _fail(request, Unavailable("the model was unloaded before the request finished; retry"))

    def _add_tokens(self, tokens: int) -> None:
        if self._tokens + tokens > self.max_tokens:
            raise Overloaded(
                f"the queue holds {self._tokens} of {self.max_tokens} tokens, and the request has {tokens}",
                self._seconds_until_room(tokens),
            )
        self._tokens += tokens

    def _seconds_until_room(self, tokens: int) -> int:
        seconds = (self._tokens + tokens - self.max_tokens) / self._tokens_per_s
        return min(_MAX_RETRY_S, max(1, math.ceil(seconds)))

    def _run(self) -> None:
        while True:
            with closing(self.model.slots(BATCH_SLOTS, self.token_counts)) as slots:
                try:
                    self._read(slots)
                except Exception as error:  # noqa: BLE001  (any error: the requests of this batch fail with it)
                    self._fail_all(error)
                else:
                    return

    def _read(self, slots: Slots) -> None:
        """Read until the batcher is closing and every request has been answered."""
        while True:
            with self._changed:
                while not self._unanswered:
                    if self._is_closing:
                        return
                    self._changed.wait()
                self._evict_ended(slots)
                self._fill_slots(slots)
            if not len(slots):
                continue
            started, before = time.perf_counter(), self.token_counts.real
            finished = slots.step()
            self._update_speed((self.token_counts.real - before) / (time.perf_counter() - started))
            for number, pooled in finished:
                request, position = self._in_progress.pop(number)
                self._add_prediction(request, position, self.model.prediction(pooled))

    def _evict_ended(self, slots: Slots) -> None:
        """Evict the texts of requests that were canceled or whose deadline has passed."""
        now = time.monotonic()
        for request in self._unanswered:
            if now > request.deadline_s:
                _fail(request, DeadlinePassed("the deadline passed before all texts were classified"))
        ended = {request for request in self._unanswered if request.answer.done()}
        if not ended:
            return
        numbers = {number for number, (request, _) in self._in_progress.items() if request in ended}
        slots.evict(numbers)
        for number in numbers:
            del self._in_progress[number]
        self._unanswered -= ended
        self._queue = deque(waiting for waiting in self._queue if waiting not in ended and waiting not in numbers)
        self._tokens -= sum(request.tokens_left for request in ended)

    def _fill_slots(self, slots: Slots) -> None:
        """Assign slots to the head of the queue. If too few are free, preempt texts whose time slice is over."""
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
            self._in_progress[number] = (waiting, waiting.admitted)
            waiting.admitted += 1
            if waiting.admitted < len(waiting.texts):
                self._queue.append(waiting)
        self._queue.extend(preempted)

    def _add_prediction(self, request: PendingRequest, position: int, prediction: Prediction) -> None:
        """Store the prediction for one text, and answer the request if it was the last one."""
        with self._changed:
            if request not in self._unanswered:
                return
            request.predictions[position] = prediction
            self._tokens -= len(request.texts[position])
            if len(request.predictions) < len(request.texts):
                return
            self._unanswered.discard(request)
        with suppress(InvalidStateError):  # the request was canceled at this moment
            request.answer.set_result([request.predictions[position] for position in range(len(request.texts))])

    def _fail_all(self, error: Exception) -> None:
        with self._changed:
            for request in self._unanswered:
                _fail(request, error)
            self._in_progress.clear()
            self._queue.clear()
            self._tokens -= sum(request.tokens_left for request in self._unanswered)
            self._unanswered.clear()

    def _update_speed(self, tokens_per_s: float) -> None:
        self._tokens_per_s += _NEWEST_WEIGHT * (tokens_per_s - self._tokens_per_s)


def _fail(request: PendingRequest, error: Exception) -> None:
    """Answer a request with an error, unless it has been answered or canceled."""
    with suppress(InvalidStateError):
        request.answer.set_exception(error)
