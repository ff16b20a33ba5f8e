from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError

from bothways.bundle.manifest import Architecture, FastaiPooling, Member
from bothways.runtime import slots
from bothways.runtime.encoder import EncoderLayout
from bothways.runtime.sessions import WINDOW_TOKENS, EncoderSession
from bothways.runtime.slots import BATCH_SLOTS, SLOTS, SlotEngine, Slots
from bothways.text.reading import Direction, SpecialTokenPlacement, TokenizedText
from bothways.text.tokenizer import PADDING_ID


class FakeSession:
    """An encoder whose state is the sum of the ids read, so that every result can be computed by hand."""

    def __init__(self, batch_texts: int) -> None:
        self.layout = EncoderLayout(("sum", "weighted sum"), (1, 1), output_state=0)
        self.batch_texts = batch_texts
        self.steps: list[list[int]] = []
        self.padding_ids: set[int] = set()

    def advance(
        self,
        ids: NDArray[np.int64],
        lengths: NDArray[np.int32],
        states: list[NDArray[np.float32]],
        largest: NDArray[np.float32],
        total: NDArray[np.float64],
    ) -> tuple[list[NDArray[np.float32]], NDArray[np.float32], NDArray[np.float64]]:
        time, batch = ids.shape
        assert time == lengths.max()
        assert lengths.min() >= 1
        assert batch == len(lengths) == len(largest) == len(total)
        self.steps.append(lengths.tolist())
        is_real = np.arange(time)[:, None] < lengths
        self.padding_ids |= set(ids[~is_real].tolist())
        values = np.where(is_real, ids, 0).astype(np.float32)
        hidden = states[0] + values.sum(axis=0)[:, None]
        weighted = states[1] * 3 + values.sum(axis=0)[:, None]  # depends on the order of windows
        return [hidden, weighted], np.maximum(largest, values.max(axis=0)[:, None]), total + values.sum(axis=0)[:, None]


def fake_engine(
    directions: int = 1, *tails: FastaiPooling | None, batch_texts: int = BATCH_SLOTS
) -> tuple[SlotEngine, list[FakeSession]]:
    sessions = [FakeSession(batch_texts) for _ in range(directions)]
    members = [
        Member(
            direction=direction,
            special_tokens=SpecialTokenPlacement.AS_WRITTEN,
            weights="forward.safetensors" if direction is Direction.FORWARD else "backward.safetensors",
            architecture=Architecture(vocabulary_size=9, width_embedding=1, width_hidden=1, layers=1),
            widths_head=[1],
            pooling=tail,
        )
        for direction, tail in itertools.zip_longest(list(Direction)[:directions], tails)
    ]
    typed: Any = sessions
    return SlotEngine(members, typed), sessions


def text_of(ids: list[int]) -> TokenizedText:
    return TokenizedText(
        np.array(ids, dtype=np.int32),
        np.arange(len(ids), dtype=np.int32),
        np.zeros(len(ids), dtype=np.int32),
    )


class Source:
    """Texts of given lengths, with a count of how many were consumed."""

    def __init__(self, lengths: list[int]) -> None:
        self.lengths = lengths
        self.read = 0

    def __iter__(self) -> Iterator[TokenizedText]:
        for length in self.lengths:
            self.read += 1
            yield text_of([self.read % 7 + 1] * length)


def test_pooled_is_last_largest_mean_computed_by_hand() -> None:
    engine, _ = fake_engine()
    ((pooled,),) = engine.run([text_of([2, 5, 3, 2])])
    assert pooled.tolist() == [12.0, 5.0, 3.0]
    assert pooled.dtype == np.float32


def test_every_member_reads_in_its_own_direction(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, sessions = fake_engine(2)
    seen: list[list[list[int]]] = []
    for session in sessions:
        original = session.advance
        columns: list[list[int]] = []
        seen.append(columns)

        def watched(ids: NDArray[np.int64], *rest: Any, original: Any = original, columns: Any = columns) -> Any:
            columns.append(ids[:, 0].tolist())
            return original(ids, *rest)

        monkeypatch.setattr(session, "advance", watched)
    ids = [n % 9 for n in range(BATCH_SLOTS * WINDOW_TOKENS + 7)]
    next(engine.run([text_of(ids)]))
    assert seen[0] == [ids[:1024], ids[1024:]]
    assert seen[1] == [ids[::-1][:1024], ids[::-1][1024:]]


def test_a_text_advances_by_windows_after_the_other_has_finished() -> None:
    engine, (session,) = fake_engine()
    results = list(engine.run([text_of([1] * 70), text_of([2] * 5)]))
    assert session.steps == [[WINDOW_TOKENS, 5], [38]]
    assert [pooled[0] for (pooled,) in results] == [70.0, 10.0]
    assert session.padding_ids == {PADDING_ID}


@given(
    st.lists(st.integers(1, 1200), min_size=1, max_size=40), st.integers(1, BATCH_SLOTS), st.sampled_from([3, 8, 32])
)
def test_few_texts_advance_by_several_windows_and_none_waits_for_another(
    lengths: list[int], most: int, batch_texts: int
) -> None:
    engine, (session,) = fake_engine(batch_texts=batch_texts)
    with closing(Slots(engine, len(lengths), max_windows=most)) as slots:
        for number, length in enumerate(lengths):
            slots.admit(number, text_of([1] * length))
        left, is_known = dict(enumerate(lengths)), True
        while len(slots):
            session.steps.clear()
            before = dict(left)
            for number, found in slots.step():
                (pooled,) = found.pooled
                assert pooled is not None
                assert pooled[0] == lengths[number]
                del left[number]
            for batch in session.steps:
                windows = -(-max(batch) // WINDOW_TOKENS)
                assert windows == -(-min(batch) // WINDOW_TOKENS)  # the shortest does not end before the last one
                assert windows <= min(most, batch_texts // len(batch))
            if not is_known:
                continue
            if len(session.steps) == 1:  # all of them share a batch, which is as long as it may be
                assert windows == min(most, batch_texts // len(before), math.ceil(min(before.values()) / WINDOW_TOKENS))
                left = {number: before[number] - windows * WINDOW_TOKENS for number in left}
            elif batch_texts == BATCH_SLOTS:  # more texts than fit into a batch
                left = {number: before[number] - WINDOW_TOKENS for number in left}
            else:  # each batch advances by as many windows as it may, so the texts are no longer known by their number
                is_known = False
    assert not left


@given(
    st.lists(st.integers(1, 300), min_size=1, max_size=20),
    st.lists(st.tuples(st.sets(st.integers(0, 19)), st.integers(0, 9)), max_size=40),
    st.integers(1, 9),
)
def test_preempted_texts_get_the_results_of_texts_that_were_not(
    lengths: list[int], turns: list[tuple[set[int], int]], most: int
) -> None:
    texts = [text_of([(length * place) % 9 for place in range(length)]) for length in lengths]
    engine, _ = fake_engine(2)
    expected = [[pooled.tolist() for pooled in of_text] for of_text in engine.run(texts)]
    found: dict[int, list[list[float]]] = {}
    waiting, preempted, reading = list(enumerate(texts)), list[int](), set[int]()
    with closing(Slots(engine, most)) as slots:
        for step in itertools.count():
            chosen, coming = turns[step] if step < len(turns) else (set(), 99)
            new = sorted(chosen & reading)
            slots.preempt(new)
            reading -= chosen
            assert len(slots) == len(reading)
            while coming and not slots.is_full and (preempted or waiting):
                coming -= 1
                if preempted:
                    slots.resume(number := preempted.pop())
                else:
                    number, text = waiting.pop()
                    slots.admit(number, text)
                reading.add(number)
            preempted += new
            for number, read in slots.step() if len(slots) else []:
                found[number] = [pooled.tolist() for pooled in read.pooled if pooled is not None]
                reading.remove(number)
            if not (len(slots) or preempted or waiting):
                break
    assert [found[number] for number in range(len(texts))] == expected


def test_no_texts_yield_no_results() -> None:
    engine, (session,) = fake_engine()
    assert list(engine.run([])) == []
    assert session.steps == []


@pytest.mark.parametrize(
    "count",
    [
        *(1, 7, 8, 9, 16, 17, BATCH_SLOTS, BATCH_SLOTS + 1, 2 * BATCH_SLOTS, 2 * BATCH_SLOTS + 1),
        *(SLOTS, SLOTS + 1, 2 * SLOTS + 76),
    ],
)
def test_results_keep_their_order_while_slots_grow(count: int) -> None:
    engine, _ = fake_engine()
    rng = np.random.default_rng(count)
    texts = [rng.integers(0, 9, length).tolist() for length in rng.integers(1, 100, count)]
    found = [pooled for (pooled,) in engine.run(map(text_of, texts))]
    assert len(found) == count
    for ids, pooled in zip(texts, found, strict=True):
        assert pooled[:2].tolist() == [sum(ids), max(ids)]
        assert pooled[2] == np.float32(sum(ids) / len(ids))


def test_states_survive_while_slots_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven long texts are half read when a short one finishes, and more short ones wait than there are slots."""
    monkeypatch.setattr(slots, "_MAX_TOKENS", 720)
    engine, (session,) = fake_engine()
    texts = [*([8] * 32 + [n] * 68 for n in range(7)), [5] * 31, *([n % 9] for n in range(30))]
    found = [pooled.tolist() for (pooled,) in engine.run(map(text_of, texts))]
    assert [len(lengths) for lengths in session.steps[:2]] == [8, 7 + 21]
    assert found == [[sum(ids), max(ids), pytest.approx(sum(ids) / len(ids))] for ids in texts]


def test_a_slot_keeps_nothing_of_the_previous_text() -> None:
    engine, _ = fake_engine()
    texts = [[8] * 40, [1] * 3, [2], [0] * 33]
    found = [pooled.tolist() for (pooled,) in engine.run(map(text_of, texts), lookahead=1)]
    assert found == [[320.0, 8.0, 8.0], [3.0, 1.0, 1.0], [2.0, 2.0, 2.0], [0.0, 0.0, 0.0]]


@pytest.mark.parametrize("lookahead", [1, 2, 3, 16, SLOTS, 10 * SLOTS])
def test_the_source_is_never_read_further_than_the_lookahead(lookahead: int) -> None:
    engine, _ = fake_engine()
    source = Source([5] * 2000)
    for yielded, _ in enumerate(engine.run(source, lookahead), start=1):
        assert source.read - yielded < min(lookahead, SLOTS)
    assert source.read == 2000


def test_no_text_is_consumed_before_a_result_is_requested() -> None:
    engine, _ = fake_engine()
    source = Source([5] * 3)
    run = engine.run(source)
    assert source.read == 0
    next(run)
    assert source.read == 3


def test_a_step_never_reads_more_texts_than_the_lookahead() -> None:
    engine, (session,) = fake_engine()
    list(engine.run(Source([100, 1, 40, 1, 1, 70, 1, 1, 1]), lookahead=3))
    assert max(map(len, session.steps)) == 3


def test_short_texts_overtake_a_long_one_only_up_to_the_limit_of_undelivered_results(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(slots, "_MAX_UNDELIVERED", 10)
    engine, (session,) = fake_engine()
    source = Source([WINDOW_TOKENS * 50, *[1] * 50])
    run = engine.run(source, lookahead=4)
    assert next(run)[0][0] == WINDOW_TOKENS * 50 * 2
    assert source.read == 10
    assert [len(lengths) for lengths in session.steps[:5]] == [4, 4, 4, 1, 1]  # 1 long and 3 + 3 + 3 short ones
    assert len(list(run)) == 50


def test_long_texts_are_not_all_admitted_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "_MAX_TOKENS", 1000)
    engine, (session,) = fake_engine()
    source = Source([900] * 10)
    run = engine.run(source)
    next(run)
    assert source.read == 2  # the second was admitted at 900 tokens, the third has to wait
    assert len(list(run)) == 9
    assert max(map(len, session.steps)) == 2


def test_one_text_above_the_limit_of_tokens_is_still_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "_MAX_TOKENS", 10)
    engine, _ = fake_engine()
    assert [pooled[0] for (pooled,) in engine.run(Source([50, 50]))] == [100.0, 150.0]


def test_an_infinite_source_yields_results() -> None:
    engine, _ = fake_engine()
    run = engine.run(text_of([n % 9] * (n % 50 + 1)) for n in itertools.count())
    found = [pooled[1] for (pooled,) in itertools.islice(run, 3000)]
    assert found == [n % 9 for n in range(3000)]


def test_an_error_of_the_source_is_raised() -> None:
    engine, _ = fake_engine()

    def broken() -> Iterator[TokenizedText]:
        yield text_of([1])
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        list(engine.run(broken()))
    assert [pooled[0] for (pooled,) in engine.run([text_of([4])])] == [4.0]  # the engine still works


def test_two_runs_of_one_engine_share_nothing() -> None:
    engine, _ = fake_engine()
    first, second = engine.run(map(text_of, [[1] * 40, [2]])), engine.run(map(text_of, [[5] * 40, [7]]))
    assert [next(run)[0][0] for run in (first, second, first, second)] == [40.0, 200.0, 2.0, 7.0]


def test_real_sessions_fit_the_engine() -> None:
    """The fake session has the interface of the real one, so the tests above hold for the real engine."""
    assert {"advance"} <= set(vars(EncoderSession))
    assert EncoderSession.advance.__code__.co_varnames[:6] == FakeSession.advance.__code__.co_varnames[:6]


FASTAI_V1 = FastaiPooling(window_tokens=70, tail_tokens=1399, last_skips_padding=False)
FASTAI_V2 = FastaiPooling(window_tokens=72, tail_tokens=1440, last_skips_padding=True)


@pytest.mark.parametrize(
    ("tail", "is_pooled"),
    [
        (FASTAI_V1, lambda start, tokens: start > tokens - 1400),
        (FASTAI_V2, lambda start, tokens: tokens - start <= 1440),
    ],
    ids=["v1", "v2"],
)
@example(tokens=1)
@example(tokens=1400)
@example(tokens=1440)
@given(tokens=st.integers(1, 20_000))
def test_the_pooled_tail_is_that_of_fastais_loops(tail: FastaiPooling, is_pooled: Any, tokens: int) -> None:
    """``is_pooled`` is the condition in fastai 1's MultiBatchEncoder and in fastai 2's SentenceEncoder."""
    first = next(start for start in range(0, tokens, tail.window_tokens) if is_pooled(start, tokens))
    assert tail.first_pooled(tokens) == first


def test_a_tail_shorter_than_a_window_would_pool_nothing_and_is_rejected() -> None:
    with pytest.raises(ValidationError, match="tail_tokens is 9, expected at least window_tokens"):
        FastaiPooling(window_tokens=10, tail_tokens=9, last_skips_padding=False)


def test_a_long_text_is_read_whole_but_only_its_tail_is_pooled() -> None:
    engine, (session,) = fake_engine(1, FastaiPooling(window_tokens=5, tail_tokens=12, last_skips_padding=True))
    ids = [8, *[3] * 39, *[2] * 10, 4]  # 51 tokens: pooled from the first multiple of 5 at or after 51 - 12
    ((pooled,),) = engine.run([text_of(ids)])
    assert pooled.tolist() == [sum(ids), 4.0, np.float32(24 / 11)]
    assert session.steps == [[40], [11]]


def test_members_that_pool_different_tails_still_advance_together() -> None:
    engine, sessions = fake_engine(2, FastaiPooling(window_tokens=4, tail_tokens=8, last_skips_padding=False), None)
    ids = list(range(2, 9)) * 3
    ((ours, all_of_it),) = engine.run([text_of(ids)])
    assert ours.tolist() == [sum(ids), max(ids[16:]), np.float32(np.mean(ids[16:]))]
    assert all_of_it.tolist() == [sum(ids), max(ids), np.float32(np.mean(ids))]
    assert [session.steps for session in sessions] == [[[16], [5]]] * 2


@given(st.lists(st.integers(1, 90), min_size=1, max_size=20), st.integers(1, 40), st.integers(0, 40))
def test_a_pooled_tail_does_not_depend_on_the_batch(lengths: list[int], window: int, more: int) -> None:
    tail = FastaiPooling(window_tokens=window, tail_tokens=window + more, last_skips_padding=True)
    rng = np.random.default_rng(0)
    texts = [rng.integers(2, 9, length).tolist() for length in lengths]
    together = [pooled.tolist() for (pooled,) in fake_engine(1, tail)[0].run(map(text_of, texts))]
    alone = [next(fake_engine(1, tail)[0].run([text_of(text)]))[0].tolist() for text in texts]
    assert together == alone
    for text, pooled in zip(texts, together, strict=True):
        kept = text[tail.first_pooled(len(text)) :]
        assert pooled[1:] == [max(kept), np.float32(sum(kept) / len(kept))]


@pytest.mark.parametrize(
    ("skips", "ids", "last", "count"),
    [
        (False, [5, 6, 7, 8], 3, 4),
        (True, [5, 6, 7, 8], 3, 4),
        (False, [5, 6, 1, 8, 1], 4, 3),  # fastai 1 takes the last token's state, even if it is padding
        (True, [5, 6, 7, 8, 1], 3, 4),
        (True, [5, 6, 1, 8, 1], 2, 3),  # fastai 2 counts all padding of the last window, wherever it is
        (True, [1, 1, 6, 7, 8, 2], 5, 4),  # and looks no further back than the last window
        (True, [1, 1, 1], 0, 1),
    ],
)
def test_typed_padding_is_treated_as_fastai_treats_it(skips: bool, ids: list[int], last: int, count: int) -> None:
    pooling = FastaiPooling(window_tokens=4, tail_tokens=None, last_skips_padding=skips)
    row = np.array(ids, dtype=np.int32)
    assert (pooling.last_pooled(row), pooling.pooled_tokens(row)) == (last, count)


def test_the_last_state_may_be_taken_before_the_end() -> None:
    engine, (session,) = fake_engine(1, FastaiPooling(window_tokens=4, tail_tokens=None, last_skips_padding=True))
    results = list(engine.run([text_of([5, 6, 7, 1, 8, 1]), text_of([3] * 4)]))
    assert [pooled[0] for (pooled,) in results] == [5 + 6 + 7 + 1, 12]
    assert session.steps == [[4, 4], [2]]
