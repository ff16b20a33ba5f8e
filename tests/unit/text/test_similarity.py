"""Equal and nearly equal texts: all are found, none is invented."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from bothways.text.similarity import LEAST_SIMILARITY, NearDuplicate, key_of, near_duplicates

LONG = "the parcel was left with the neighbor, who says that it never came and that nobody rang"


def test_texts_that_differ_by_case_space_and_entities_have_the_same_key() -> None:
    assert key_of("Fish &amp; chips,\n  PLEASE") == key_of("fish & chips, please")
    assert key_of("fish and chips") != key_of("fish & chips")
    assert key_of("\u200b \t") in ("", "\u200b")
    assert key_of(("A", "b")) != key_of(("a b", ""))


def test_a_changed_word_is_near_and_another_text_is_not() -> None:
    keys = [LONG, "something else entirely, about a lamp", LONG.replace("rang", "called")]
    (found,) = near_duplicates(keys)
    assert (found.place, found.other) == (2, 0)
    assert LEAST_SIMILARITY <= found.similarity < 1


def test_each_text_is_compared_with_the_others_only_where_they_are_given() -> None:
    near = LONG.replace("rang", "called")
    assert near_duplicates([LONG, near], ["a lamp that does not light"]) == []
    assert [(each.place, each.other) for each in near_duplicates(["a lamp", near], ["a chair", LONG])] == [(1, 1)]
    assert near_duplicates([], [LONG]) == []
    assert near_duplicates([LONG]) == []


def test_many_texts_of_one_template_are_all_found() -> None:
    keys = [f"{LONG}, order {number}" for number in range(300)]
    assert [each.place for each in near_duplicates(keys)] == list(range(1, 300))


texts = st.lists(st.text(alphabet="ab \u00e9\U0001f600", min_size=1, max_size=12).map(key_of).filter(bool), unique=True)


@settings(deadline=None)
@given(texts)
def test_every_match_is_as_similar_as_it_says(keys: list[str]) -> None:
    def shingles(key: str) -> set[str]:
        padded = f" {key} ".ljust(5)
        return {padded[start : start + 5] for start in range(len(padded) - 4)}

    def similarity(one: str, other: str) -> float:
        return len(shingles(one) & shingles(other)) / len(shingles(one) | shingles(other))

    found = near_duplicates(keys)
    for each in found:
        assert each.other < each.place
        assert each == NearDuplicate(each.place, each.other, similarity(keys[each.place], keys[each.other]))
        assert each.similarity >= LEAST_SIMILARITY
    places = {each.place for each in found}
    for one, other in itertools.combinations(range(len(keys)), 2):
        if shingles(keys[one]) == shingles(keys[other]):  # equal signatures, so certainly compared
            assert other in places
