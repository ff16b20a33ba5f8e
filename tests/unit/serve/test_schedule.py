"""The order in which requests are served, and which are refused, with a speed that never changes."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from bothways.runtime.slots import BATCH_SLOTS
from bothways.serve.schedule import PendingRequest, Schedule
from bothways.serve.speed import EFFICIENT_TEXTS, ReadingSpeed
from bothways.text.reading import TokenizedText

WINDOW_S = 0.032
"""Seconds per step that reads one window: 1 ms per token."""


def text_of(length: int) -> TokenizedText:
    starts = np.arange(length, dtype=np.int32)
    return TokenizedText(np.zeros(length, dtype=np.int32), starts, (starts == 0).astype(np.int32))


def schedule_of(*lengths_and_deadlines: tuple[list[int], float]) -> tuple[Schedule, list[PendingRequest]]:
    schedule = Schedule(ReadingSpeed(0.0, 0.001))
    requests = []
    for lengths, deadline_s in lengths_and_deadlines:
        requests.append(added(schedule, lengths, deadline_s))
    return schedule, requests


def added(schedule: Schedule, lengths: list[int], deadline_s: float) -> PendingRequest:
    request = PendingRequest(deadline_s)
    schedule.set_size(request, lengths)
    schedule.add(request)
    schedule.set_texts(request, {position: text_of(length) for position, length in enumerate(lengths)})
    return request


def excess_s(schedule: Schedule, lengths: list[int], deadline_s: float) -> float:
    request = PendingRequest(deadline_s)
    schedule.set_size(request, lengths)
    return schedule.forecast(request, 0).excess_s


def test_among_similar_requests_the_earliest_deadline_is_first() -> None:
    schedule, (late, early, same) = schedule_of(([100], 9), ([100], 5), ([100], 9))
    assert [text.request for text in schedule.next_texts(0)] == [early, late, same]


def test_requests_of_another_size_take_turns() -> None:
    schedule, requests = schedule_of(*[([10_000], 5)] * 40, ([10], 60), ([10], 61))
    chosen = [requests.index(text.request) for text in schedule.next_texts(-1e6)]
    assert (chosen[:4], len(chosen)) == ([40, 0, 41, 1], BATCH_SLOTS)


def test_a_request_of_many_texts_is_long() -> None:
    schedule, (many, one) = schedule_of(([10] * 1000, 5), ([10], 60))
    assert [text.request for text in schedule.next_texts(-1e6)][:3] == [one, many, many]


def test_a_step_reads_no_more_texts_than_can_be_finished_in_time() -> None:
    """Each of 32 texts has 10 windows and 2 s: 1.6 s with the margin, so a step may take 0.16 s, which is 5 windows."""
    schedule, _ = schedule_of(*[([320], 2.0)] * BATCH_SLOTS)
    assert len(schedule.next_texts(0)) == 5
    assert len(schedule.next_texts(-100)) == BATCH_SLOTS
    assert len(schedule.next_texts(1.9)) == 4  # one of them is late anyway


def test_what_waits_or_is_read_counts_until_it_has_been_read() -> None:
    schedule, (request, other) = schedule_of(([320, 64], 5), ([320], 9))
    assert schedule.seconds == pytest.approx(0.704)
    (first, second, third) = schedule.next_texts(0)
    for text in (first, second, third):
        schedule.advance(text)
    assert schedule.seconds == pytest.approx(0.704 - 3 * WINDOW_S)
    schedule.finish(second)
    assert request.tokens == 320
    assert schedule.seconds == pytest.approx(0.704 - 4 * WINDOW_S)
    schedule.remove(request)
    assert schedule.seconds == pytest.approx(9 * WINDOW_S)
    schedule.finish(first)  # it was in a slot when its request was removed
    schedule.remove(other)
    assert (schedule.seconds, len(schedule), schedule.has_texts) == (0, 0, False)


def test_a_request_is_refused_if_it_can_not_be_finished_in_time() -> None:
    """1 s is waiting, and then its text takes 4 steps of 8 windows. Many texts take as long as all of their tokens."""
    schedule, _ = schedule_of(*[([100], 60)] * 10)
    needed_s = 1.25 * (1.0 + 4 * EFFICIENT_TEXTS * WINDOW_S)
    assert excess_s(schedule, [100], 60) == pytest.approx(needed_s - 60)
    assert excess_s(schedule, [100], 2) == pytest.approx(needed_s - 1.25 - 2)  # it is read before the others
    assert excess_s(schedule, [32] * 64, 60) == pytest.approx(1.25 * (1.0 + 64 * WINDOW_S) - 60)


def test_a_request_is_refused_if_it_would_delay_another_one_beyond_its_deadline() -> None:
    schedule, _ = schedule_of(*[([100], 3.67)] * 20)
    assert excess_s(schedule, [100], 3.68) > 0
    late = excess_s(schedule, [100] * 2, 3.6)  # in time itself, but the last of those behind it would be late
    assert 0 < late < 0.3
    assert excess_s(schedule, [10], 3.6) <= 0


def test_another_group_delays_a_request_no_more_than_its_own_does() -> None:
    schedule, _ = schedule_of(([10_000], 60), ([100], 60))
    request = PendingRequest(60)
    schedule.set_size(request, [100])
    assert schedule.forecast(request, 0).wait_s == pytest.approx(0.1 + 0.2)


def test_requests_that_can_not_be_finished_any_more_are_dropped_before_they_are_read() -> None:
    schedule, (first, second, third) = schedule_of(([320], 5), ([320], 5.1), ([320], 50))
    assert schedule.hopeless(0) == []
    first.started_s = 0
    assert schedule.hopeless(4.6) == [second]
    assert schedule.hopeless(5.2) == [first, second]
    schedule.remove(first)
    schedule.remove(second)
    assert schedule.hopeless(49.9) == []  # it is alone: there is nothing better to do
    assert schedule.hopeless(50.1) == [third]


def test_the_speed_follows_the_steps() -> None:
    speed = ReadingSpeed(0.01, 0.0001)
    assert speed.step_s(100) == pytest.approx(0.02)
    for _ in range(200):
        speed.add(100, 0.04)
    assert speed.step_s(100) == pytest.approx(0.04, rel=0.01)
    assert speed.step_s(400) == pytest.approx(0.10, rel=0.01)
    before = speed.factor
    speed.add(100, 3600)  # the machine was suspended
    assert speed.factor < 25 * before
    for _ in range(200):
        speed.add(100, 0.02)
    assert speed.tokens_per_s == pytest.approx(32 / (0.0032 + 0.01 / EFFICIENT_TEXTS), rel=0.03)


def test_sizes_are_grouped_by_factors_of_eight() -> None:
    schedule = Schedule(ReadingSpeed(0.0, 0.001))
    groups = []
    for windows in (1, 8, 9, 64, 65, 512, 513, 4096, 4097, 10**6):
        request = PendingRequest(1)
        schedule.set_size(request, [32] * windows)
        groups.append(request.group)
    assert groups == [0, 0, 1, 1, 2, 2, 3, 3, 4, 5]
    assert list(itertools.pairwise(groups)) == sorted(itertools.pairwise(groups))
