"""Unusual texts among usual ones."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from bothways.text.fields import Text
from bothways.text.oddities import Oddity, unusual_texts
from bothways.text.similarity import key_of

WORDS = ("the", "parcel", "came", "late", "and", "the", "box", "was", "open", "when", "my", "neighbor", "found", "it")
USUAL = [" ".join(WORDS[number % 5 :] + WORDS[: 3 + number % 4]) for number in range(60)]


def unusual(texts: Sequence[Text]) -> list[Oddity]:
    return unusual_texts(texts, list(map(key_of, texts)))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("  \n", "empty after cleaning"),
        ("12 34 ... 56 78 90 12 34 56 78", "no letters"),
        ("посылка пришла поздно и коробка была открыта", "written in Cyrillic"),
        ("the parcel cafÃ© came late and the box was open", "broken characters"),
        ("for (int i = 0; i < n; i++) { sum[i] += x[i]; } </div>", "looks like code or markup"),
        (" ".join(WORDS) * 40, "characters, "),
        ("das Paket kam leider viel zu spät an und war offen", "words are in no other text"),
    ],
)
def test_a_text_that_differs_is_found_with_the_reason(text: str, reason: str) -> None:
    found = unusual([*USUAL, text])
    assert [each.place for each in found] == [60]
    assert reason in found[0].reason
    assert 0 < found[0].score <= 1


def test_usual_texts_are_not_reported() -> None:
    assert unusual(USUAL) == []
    assert unusual([]) == []


def test_what_many_texts_have_is_usual() -> None:
    code = [f"<b>item {number}</b> <i>{' '.join(WORDS)}</i>" for number in range(30)]
    assert unusual([*USUAL, *code]) == []


def test_fields_are_read_together() -> None:
    assert unusual([(text, "") for text in USUAL]) == []
