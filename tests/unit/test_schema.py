"""D1: values are validated in bounded time and memory, and the first fault is named."""

import time
import tracemalloc
from typing import Annotated

import pytest
from pydantic import Field

from bothways.schema import STOP_EARLY, Document, Entries, Faults, Items, validated

MANY = 200_000


class Inner(Document):
    number: int


class Outer(Document):
    items: Items[int] = Field(default=[])
    inner: Items[Inner] = Field(default=[])
    entries: Entries[Entries[float]] = Field(default={})
    chosen: Annotated[dict[Annotated[str, Field(pattern="^a")], int], STOP_EARLY] = Field(default={})


def numbered(value: object) -> dict[str, object]:
    return {f"k{number}": value for number in range(MANY)}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "Input should be an object"),
        ({"items": ["x"] * MANY}, "items.0: Input should be a valid integer"),
        ({"inner": [{}] * MANY}, "inner.0.number: Field required"),
        ({"inner": [{"number": 1} | numbered(1)]}, "inner.0: the object has 200001 keys, of which k0 is unknown"),
        ({"entries": numbered(1)}, "entries.k0: Input should be an object"),
        ({"entries": {"a": numbered("x")}}, "entries.a.k0: Input should be a valid number"),
        ({"entries": numbered({"b": "x"})}, "entries.k0.b: Input should be a valid number"),
        ({"chosen": numbered(1)}, "chosen.k0.[key]: String should match pattern '^a'"),
        (numbered(1), "the object has 200000 keys, of which k0 is unknown"),
        ({"\x1b[31m": 1}, "\\x1b[31m: Extra inputs are not permitted"),
        ({"items": ["1"]}, "items.0: Input should be a valid integer"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_d1_the_first_fault_is_named_at_a_bounded_cost(value: object, message: str) -> None:
    tracemalloc.start()
    started = time.process_time()
    with pytest.raises(Faults) as caught:
        validated(Outer, value)
    seconds, (_, peak_bytes) = time.process_time() - started, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert str(caught.value) == message
    assert len(caught.value.faults) <= 30
    assert seconds < 2
    assert peak_bytes < 10e6  # nothing is collected and nothing is copied


def test_a_valid_value_of_any_size_is_accepted() -> None:
    value = {"items": list(range(1000)), "entries": {f"a{n}": {"b": 1.0} for n in range(100)}, "chosen": {"ab": 1}}
    assert validated(Outer, value).model_dump() == {"inner": [], **value}
