"""Read the texts of all requests in one continuous batch.

Input: tokenized texts of requests, from any thread. Output: their predictions. One thread drives the slots. Between two
steps it decides which texts to read in the next one (``schedule.py``, and ``runtime/slots.py`` for the terms). Requests
that can't be answered before their deadlines are refused at once, and the number of tokens and the time to read them
are bounded. This module does not depend on HTTP.
"""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections.abc import Iterator, Sequence, Set
from concurrent.futures import InvalidStateError
from contextlib import closing, contextmanager, suppress

from bothways.errors import DeadlinePassed, DeadlineTooSoon, Overloaded, RequestTooLarge, Unavailable
from bothways.runtime.classifier import Classifier
from bothways.runtime.prediction import Prediction
from bothways.runtime.slots import BATCH_SLOTS, Slots, TokenCounts
from bothways.serve.schedule import PendingRequest, QueuedText, Schedule
from bothways.serve.speed import ReadingSpeed
from bothways.text.reading import TokenizedText

_MAX_RETRY_S = 600


class ModelUnloaded(Unavailable):
    """The model is being unloaded. The request can be repeated with the model that replaces it."""


class Batcher:
    """The running batch of one model, and the thread that reads it.

    Guarantee 8: the predictions of a request are bit-identical to those of ``model.predict``, under any load.

    Attributes:
        model: The model that reads the texts.
        max_tokens: The maximum number of tokens waiting or being read.
        max_wait_s: The maximum number of seconds that a new request may have to wait for others.
        speed: The measured speed of reading.
        token_counts: The numbers of tokens read so far.
    """

    def __init__(self, model: Classifier, max_tokens: int, max_wait_s: float = math.inf) -> None:
        """Measure the speed of the model, and start the thread."""
        self.model, self.max_tokens, self.max_wait_s = model, max_tokens, max_wait_s
        self.speed = ReadingSpeed.of(model)
        self.token_counts = TokenCounts()
        self._changed = threading.Condition()
        self._schedule = Schedule(self.speed)
        self._tokens = 0
        self._is_closing = False
        self._numbers = itertools.count()
        self._in_progress: dict[int, QueuedText] = {}  # admitted texts by number. Only the thread changes it
        self._in_slots: set[int] = set()  # the numbers of those that are not preempted
        self._thread = threading.Thread(target=self._run, name="bothways-batch", daemon=True)
        self._thread.start()

    @property
    def tokens(self) -> int:
        """The number of tokens of the texts waiting or being read, including reserved tokens."""
        return self._tokens

    @property
    def seconds(self) -> float:
        """The predicted number of seconds to read the texts waiting or being read."""
        with self._changed:
            return self._schedule.seconds

    @property
    def texts_in_progress(self) -> int:
        """The number of texts that have been admitted and are not finished, including preempted ones."""
        return sum(text.request.is_scheduled for text in list(self._in_progress.values()))

    @contextmanager
    def reserve(self, lengths: Sequence[int], deadline_s: float) -> Iterator[PendingRequest]:
        """Accept a request before it is tokenized, and forget it unless it has been submitted by the end.

        Args:
            lengths: The estimated number of tokens per text.
            deadline_s: The deadline on the monotonic clock.

        Raises:
            Overloaded: The queue has no room for the request, or the request would wait for too long.
            DeadlineTooSoon: The request, or one that was accepted before, would miss its deadline.
            ModelUnloaded: The model is being unloaded.
        """
        request = PendingRequest(deadline_s)
        with self._changed:
            self._accept(request, lengths)
        try:
            yield request
        finally:
            if not request.unread:
                with self._changed:
                    self._remove(request)

    def submit(
        self, texts: Sequence[TokenizedText], deadline_s: float, reserved: PendingRequest | None = None
    ) -> PendingRequest:
        """Accept the texts of a request. Those that no direction has to read are answered here.

        Args:
            texts: The tokenized texts.
            deadline_s: The deadline on the monotonic clock.
            reserved: The request as it was reserved. Defaults to a new one.

        Raises:
            RequestTooLarge: The texts have more tokens than an empty queue can hold.
            Overloaded: As for ``reserve``. A reserved request is only refused if it is longer than estimated, and the
                queue has no room for it.
            DeadlineTooSoon: As for ``reserve``, unless the request was reserved.
            ModelUnloaded: The model is being unloaded.
        """
        request = reserved or PendingRequest(deadline_s)
        unread: dict[int, TokenizedText] = {}
        for position, text in enumerate(texts):
            found = self.model.engine.without_reading(text)
            if found is None:
                unread[position] = text
            else:
                request.predictions[position] = self.model.prediction(found)
        if not unread:
            with suppress(InvalidStateError):  # the deadline has passed
                request.answer.set_result([request.predictions[position] for position in range(len(texts))])
            return request
        lengths = [len(text) for text in unread.values()]
        if sum(lengths) > self.max_tokens:
            raise RequestTooLarge(
                f"the texts have {sum(lengths)} tokens, the limit is {self.max_tokens} (max-queue-tokens)"
            )
        with self._changed:
            if reserved is None:
                self._accept(request, lengths)
            elif self._is_closing:
                raise ModelUnloaded("the model is being unloaded: retry")
            elif not request.is_scheduled:
                raise DeadlinePassed("the deadline passed before the texts were tokenized")
            else:
                self._require_room(sum(lengths), sum(lengths) - request.tokens)
            self._tokens += sum(lengths) - request.tokens
            self._schedule.set_texts(request, unread)
            self._changed.notify()
        return request

    def cancel(self, request: PendingRequest) -> None:
        """Stop reading for a request whose client has disconnected. No effect on a request that has been answered."""
        if request.answer.cancel():
            with self._changed:
                self._remove(request)

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
            for request in list(self._schedule):
                self._fail(request, Unavailable("the model was unloaded before the request finished; retry"))

    def _accept(self, request: PendingRequest, lengths: Sequence[int]) -> None:
        """Add a request to the schedule, or refuse it.

        A request that has the model to itself is not refused because of its deadline. So a speed that was measured at
        a bad moment is corrected.
        """
        if self._is_closing:
            raise ModelUnloaded("the model is being unloaded: retry")
        self._require_room(sum(lengths), sum(lengths))
        self._schedule.set_size(request, lengths)
        if len(self._schedule):
            now_s = time.monotonic()
            forecast = self._schedule.forecast(request, now_s)
            if forecast.wait_s > self.max_wait_s:
                raise Overloaded(
                    f"the texts before this request need an estimated {forecast.wait_s:.1f} s, the limit is "
                    f"{self.max_wait_s:g} s (max-queue-s)",
                    _retry_after_s(forecast.wait_s - self.max_wait_s),
                )
            if forecast.excess_s > 0:
                raise DeadlineTooSoon(
                    f"the request can't be answered before its deadline in {request.deadline_s - now_s:.2g} s: with "
                    f"the requests before it, an estimated {forecast.finish_s:.2g} s are needed",
                    _retry_after_s(forecast.excess_s),
                )
        self._tokens += request.tokens
        self._schedule.add(request)

    def _require_room(self, tokens: int, more: int) -> None:
        """Check that the queue has room for more tokens of a request."""
        if self._tokens + more > self.max_tokens:
            raise Overloaded(
                f"the queue holds {self._tokens} of {self.max_tokens} tokens, and the request has {tokens}",
                _retry_after_s((self._tokens + more - self.max_tokens) / self.speed.tokens_per_s),
            )

    def _remove(self, request: PendingRequest) -> None:
        """Forget a request. Texts of it that are in slots are evicted before the next step."""
        if request.is_scheduled:
            self._schedule.remove(request)
            self._tokens -= request.tokens
            if not len(self._schedule):
                self._changed.notify()

    def _fail(self, request: PendingRequest, error: Exception) -> None:
        """Answer a request with an error, unless it has been answered or canceled."""
        self._remove(request)
        with suppress(InvalidStateError):
            request.answer.set_exception(error)

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
        started_s = time.perf_counter()
        while True:
            with self._changed:
                texts = self._next_texts()
                ended = {number for number, text in self._in_progress.items() if not text.request.is_scheduled}
                if not texts and self._is_closing and not len(self._schedule):
                    return
            self._assign_slots(slots, texts, ended)
            if not texts:
                self._wait()
                started_s = time.perf_counter()
                continue
            before = self.token_counts.real
            finished = slots.step()
            with self._changed:
                for text in texts:
                    self._schedule.advance(text)
            for number, pooled in finished:
                self._add_prediction(number, self.model.prediction(pooled))
            now_s = time.perf_counter()
            self.speed.add((self.token_counts.real - before) / len(self.model.directions), now_s - started_s)
            started_s = now_s

    def _wait(self) -> None:
        """Wait until there are texts to read, or the batcher is closing and every request has been answered."""
        with self._changed:
            self._changed.wait_for(lambda: self._schedule.has_texts or (self._is_closing and not len(self._schedule)))

    def _next_texts(self) -> list[QueuedText]:
        """Fail the requests that can't be answered in time any more, and return the texts to read in the next step."""
        now_s = time.monotonic()
        for request in self._schedule.hopeless(now_s):
            if now_s > request.deadline_s:
                self._fail(request, DeadlinePassed("the deadline passed before all texts were classified"))
            else:
                self._fail(request, DeadlinePassed("the texts can't be classified before the deadline any more"))
        return self._schedule.next_texts(now_s)

    def _assign_slots(self, slots: Slots, texts: Sequence[QueuedText], ended: Set[int]) -> None:
        """Let the texts have slots, and no others. Evict the texts of requests that have ended, by their numbers."""
        slots.evict(ended)
        for number in ended:
            del self._in_progress[number]
        chosen = {text.number for text in texts}
        self._in_slots -= ended
        slots.preempt(self._in_slots - chosen)
        for text in texts:
            if text.number is None:
                text.request.started_s = text.request.started_s or time.monotonic()
                text.number = next(self._numbers)
                self._in_progress[text.number] = text
                slots.admit(text.number, text.text)
            elif text.number not in self._in_slots:
                slots.resume(text.number)
        self._in_slots = {text.number for text in texts if text.number is not None}

    def _add_prediction(self, number: int, prediction: Prediction) -> None:
        """Store the prediction for one text, and answer the request if it was the last one."""
        with self._changed:
            text = self._in_progress.pop(number)
            self._in_slots.discard(number)
            request = text.request
            if not request.is_scheduled:
                return
            request.predictions[text.position] = prediction
            self._tokens -= len(text.text)
            self._schedule.finish(text)
            if request.unread:
                return
            self._remove(request)
        with suppress(InvalidStateError):  # the request was canceled at this moment
            request.answer.set_result([request.predictions[position] for position in sorted(request.predictions)])

    def _fail_all(self, error: Exception) -> None:
        with self._changed:
            for request in list(self._schedule):
                self._fail(request, error)
            self._in_progress.clear()
            self._in_slots.clear()


def _retry_after_s(seconds: float) -> int:
    return min(_MAX_RETRY_S, max(1, math.ceil(seconds)))
