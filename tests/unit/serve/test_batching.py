"""The continuous batch without a server: which texts are admitted when, what is bounded, and what is evicted."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import closing, suppress

import numpy as np
import pytest

from bothways.errors import DeadlinePassed, DeadlineTooSoon, Overloaded, RequestTooLarge, Unavailable
from bothways.runtime.classifier import Classifier
from bothways.runtime.prediction import Prediction
from bothways.runtime.sessions import WINDOW_TOKENS
from bothways.runtime.slots import BATCH_SLOTS, TokenCounts
from bothways.serve.batching import Batcher
from bothways.serve.schedule import PendingRequest
from bothways.text.reading import TokenizedText

SENTENCE = "the cat sat on a mat, "


@pytest.fixture
def batcher(model: Classifier) -> Iterator[Batcher]:
    found = Batcher(model, 200_000)
    yield found
    found.close(timeout_s=0)


def tokens(model: Classifier, *texts: str) -> list[TokenizedText]:
    return [model.tokenizer.tokenize(text) for text in texts]


def soon() -> float:
    return time.monotonic() + 60


def ensemble(predictions: list[Prediction]) -> np.ndarray:
    return np.array([prediction.probabilities["ensemble"] for prediction in predictions])


def submitted(batcher: Batcher, *texts: str) -> PendingRequest:
    return batcher.submit(tokens(batcher.model, *texts), soon())


def test_every_request_gets_the_predictions_of_its_texts_bit_for_bit(batcher: Batcher, model: Classifier) -> None:
    requests = [[SENTENCE * (number % 7), f"request {number}"] for number in range(100)]
    pending = [submitted(batcher, *texts) for texts in requests]
    for request, texts in zip(pending, requests, strict=True):
        assert np.array_equal(ensemble(request.answer.result(60)), model.predict_proba(texts))
    assert (batcher.tokens, batcher.texts_in_progress) == (0, 0)


def test_a_request_without_texts_is_answered_immediately(batcher: Batcher) -> None:
    assert submitted(batcher).answer.result(0) == []


def test_a_new_text_waits_for_one_window_of_a_long_text(model: Classifier) -> None:
    counts = TokenCounts()
    with closing(model.slots(BATCH_SLOTS, counts)) as slots:
        slots.admit(0, *tokens(model, SENTENCE * 200))
        slots.step()
    assert counts.real == len(model.directions) * WINDOW_TOKENS


def test_a_short_text_does_not_wait_for_a_long_one(batcher: Batcher) -> None:
    long = submitted(batcher, SENTENCE * 10_000)
    short = submitted(batcher, "a film")
    short.answer.result(60)
    assert not long.answer.done()


def test_short_texts_do_not_wait_for_as_many_long_ones_as_there_are_slots(model: Classifier) -> None:
    batcher = Batcher(model, 3_000_000)
    long = [submitted(batcher, f"{number} {SENTENCE * 200}") for number in range(BATCH_SLOTS + 6)]
    while batcher.texts_in_progress < BATCH_SLOTS:
        time.sleep(0.001)
    for number in range(3):
        short = submitted(batcher, f"a film {number}")
        found = ensemble(short.answer.result(60))
        assert np.array_equal(found, model.predict_proba([f"a film {number}"]))
        assert not any(request.answer.done() for request in long)
    found = np.concatenate([ensemble(request.answer.result(120)) for request in long])
    expected = model.predict_proba([f"{number} {SENTENCE * 200}" for number in range(BATCH_SLOTS + 6)])
    assert np.array_equal(found, expected)  # although each of them was preempted again and again
    batcher.close()


def test_a_request_of_one_text_does_not_wait_for_a_request_of_many(batcher: Batcher) -> None:
    many = submitted(batcher, *[SENTENCE * 10] * 1000)
    short = submitted(batcher, "a film")
    short.answer.result(60)
    assert not many.answer.done()
    many.answer.result(60)


def test_a_request_over_the_queue_limit_is_rejected_with_a_retry_time(batcher: Batcher) -> None:
    first = submitted(batcher, SENTENCE * 10_000)
    with pytest.raises(Overloaded, match=r"the queue holds \d+ of 200000 tokens, and the request has \d+") as raised:
        submitted(batcher, SENTENCE * 10_000)
    assert 1 <= raised.value.retry_after_s <= 600
    first.answer.result(60)
    submitted(batcher, SENTENCE * 10_000).answer.result(60)


def test_reserved_room_is_not_available_to_others(batcher: Batcher) -> None:
    with suppress(KeyError), batcher.reserve([199_990], soon()):  # a request that fails while its tokens are counted
        with pytest.raises(Overloaded), batcher.reserve([11], soon()):
            pass
        with pytest.raises(Overloaded, match="the queue holds 199990 of 200000 tokens"):
            submitted(batcher, SENTENCE)
        raise KeyError
    submitted(batcher, SENTENCE * 10_000).answer.result(60)
    assert batcher.tokens == 0


def test_f3_a_request_that_can_not_meet_its_deadline_is_refused_at_once_and_not_read(batcher: Batcher) -> None:
    """The first one has about a second of work, as measured when the model was loaded."""
    first = submitted(batcher, SENTENCE * 10_000)
    with pytest.raises(DeadlineTooSoon, match=r"can't be answered before its deadline in 0\.0\d+ s: with") as raised:
        batcher.submit(tokens(batcher.model, SENTENCE * 5_000), time.monotonic() + 0.05)
    assert 1 <= raised.value.retry_after_s <= 60
    assert not first.answer.done()
    batcher.max_wait_s = 1e-6
    with pytest.raises(Overloaded, match=r"the limit is 1e-06 s \(max-queue-s\)"):
        submitted(batcher, SENTENCE * 5_000)
    first.answer.result(60)
    assert batcher.tokens == 0
    alone = batcher.submit(tokens(batcher.model, SENTENCE * 10_000), time.monotonic() + 0.01)
    with pytest.raises(DeadlinePassed):  # nothing else waits, so it was worth a try
        alone.answer.result(60)


def test_a_request_larger_than_the_queue_is_too_large(batcher: Batcher) -> None:
    with pytest.raises(RequestTooLarge, match=r"the limit is 200000 \(max-queue-tokens\)"):
        submitted(batcher, SENTENCE * 20_000)


def test_a_canceled_request_is_not_read_any_further(batcher: Batcher) -> None:
    left = submitted(batcher, SENTENCE * 10_000)
    batcher.cancel(left)
    with pytest.raises(CancelledError):
        left.answer.result(60)
    while batcher.tokens:
        time.sleep(0.01)
    assert batcher.texts_in_progress == 0
    assert batcher.token_counts.real < 130_001  # both members would read as many each


def test_a_deadline_that_passes_ends_a_request_and_no_other(batcher: Batcher, model: Classifier) -> None:
    late = batcher.submit(tokens(model, SENTENCE * 10_000), time.monotonic() + 0.05)
    other = submitted(batcher, SENTENCE * 300)
    with pytest.raises(DeadlinePassed):
        late.answer.result(60)
    assert np.array_equal(ensemble(other.answer.result(60)), model.predict_proba([SENTENCE * 300]))
    assert batcher.tokens == 0


def test_closing_answers_accepted_requests_and_rejects_new_ones(model: Classifier) -> None:
    batcher = Batcher(model, 200_000)
    taken = submitted(batcher, SENTENCE * 1000)
    batcher.close()
    assert taken.answer.done()
    assert len(taken.answer.result()) == 1
    with pytest.raises(Unavailable):
        submitted(batcher, "a")


def test_requests_that_are_not_finished_at_the_timeout_of_close_fail(model: Classifier) -> None:
    batcher = Batcher(model, 200_000)
    taken = submitted(batcher, SENTENCE * 10_000)
    batcher.close(timeout_s=0.05)
    with pytest.raises(Unavailable, match="was unloaded before the request finished"):
        taken.answer.result(0)


def test_an_error_while_reading_fails_the_waiting_requests_and_the_next_are_served(
    batcher: Batcher, model: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = type(model).prediction
    broken = [True]

    def prediction(self: Classifier, pooled: object) -> Prediction:
        if broken.pop() if broken else False:
            raise MemoryError("no memory")
        return original(self, pooled)  # type: ignore[arg-type]

    monkeypatch.setattr(type(model), "prediction", prediction)
    with pytest.raises(MemoryError):
        submitted(batcher, "a film").answer.result(60)
    assert len(submitted(batcher, "a film").answer.result(60)) == 1
    assert (batcher.tokens, batcher.texts_in_progress) == (0, 0)
