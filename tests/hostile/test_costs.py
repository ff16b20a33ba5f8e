"""D1, D2, D3: no file and no request costs more than 2 s of CPU and 100 MB of memory per megabyte of it.

Each case is one line: an entrance of ``entrances.py`` and a hostile content. Every entrance also has to keep these
bounds for a harmless file of a megabyte. The only outcomes are a value and a ``BothwaysError``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.hostile.entrances import ENTRANCES
from tests.hostile.measure import Measurer, measurer

MB = 1_000_000


@pytest.fixture(scope="module")
def measure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Measurer]:
    with measurer(tmp_path_factory.mktemp("cost")) as opened:
        yield opened


def repeated(part: bytes, before: bytes = b"", after: bytes = b"", size: int = MB) -> Callable[[], bytes]:
    """Return a maker of a part that is repeated up to a size in bytes."""
    return lambda: before + part * (size // len(part)) + after


# A pickle of 441 bytes: a list that contains ten times a list that contains ten times a list ...
LAUGHS = b"\x80\x02]" + (b"q\x00](" + b"h\x00" * 10 + b"e") * 17 + b"."

HOSTILE: list[tuple[str, str, Callable[[], bytes]]] = [
    # entrance, what is hostile about it, content
    ("pickle", "shared lists 17 deep", lambda: LAUGHS),
    ("pickle", "lists", repeated(b"]", b"(", b"l.")),
    ("pickle", "nested lists", repeated(b"]a", b"]" * (MB // 2), b".", MB // 2)),
    ("pickle", "dicts", repeated(b"}", b"(", b"l.")),
    ("pickle", "sets", repeated(b"\x8f", b"(", b"l.")),
    ("pickle", "marks", repeated(b"(")),
    ("pickle", "memo", repeated(b"\x94", b"N", b".")),
    ("pickle", "records", repeated(b")\x81", b"cx\ny\n", b".")),
    ("pickle", "text", repeated(b"\xc3\xa4", b"X\x40\x42\x0f\x00", b".")),
    ("csv", "delimiters", repeated(b",", b"a\n")),
    ("csv", "quotes", repeated(b'"', b"a\n")),
    ("json lines", "nested", repeated(b"[")),
]


@pytest.mark.parametrize("entrance", ENTRANCES)
def test_a_harmless_megabyte_is_read_within_the_bounds(measure: Measurer, entrance: str) -> None:
    """The same bounds for harmless files show that the hostile ones cost no more than is usual."""
    cost = measure.cost(entrance, ENTRANCES[entrance].benign(MB))
    cost.check()
    assert not cost.error


@pytest.mark.parametrize(
    ("entrance", "content"), [pytest.param(e, content, id=f"{e}: {name}") for e, name, content in HOSTILE]
)
def test_a_hostile_file_costs_no_more_than_its_size_allows(
    measure: Measurer, entrance: str, content: Callable[[], bytes]
) -> None:
    measure.cost(entrance, content()).check()


def test_the_measurement_sees_time_and_memory(measure: Measurer) -> None:
    cost = measure.cost("csv", ENTRANCES["csv"].benign(10 * MB))
    assert cost.size_bytes > 9.9 * MB
    assert 0.05 < cost.seconds < 20
    assert cost.peak_bytes > 0
