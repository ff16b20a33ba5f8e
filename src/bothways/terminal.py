"""Print foreign text to a terminal: no label, column or path can move the cursor, change colors or forge a line.

Also what functions without a terminal report their progress with.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from bothways.errors import escaped

_Item = TypeVar("_Item")
OnProgress = Callable[[str, int, int], object]
"""Is called with the name of a stage, how much of it is done, and how much it is in total."""

_UNSAFE = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters but the line end, what changes the direction of text, and halves of characters.

Unlike ``escaped``, this keeps the invisible characters that some scripts and emoji need.
"""


class SafeConsole(Console):
    """A console that escapes the control characters of everything it prints. Its own colors are kept."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render an object as rich does, with its text escaped."""
        for segment in super().render(renderable, options):
            if segment.control or not _UNSAFE.search(segment.text):
                yield segment
            else:
                yield Segment(_UNSAFE.sub(lambda match: escaped(match[0]), segment.text), segment.style)


def ignore_progress(stage: str, done: int, total: int) -> None:
    """Show no progress."""


def reported(items: Iterable[_Item], stage: str, total: int, on_progress: OnProgress) -> Iterator[_Item]:
    """Yield items, and report before each one how many are done."""
    for done, item in enumerate(items):
        on_progress(stage, done, total)
        yield item
