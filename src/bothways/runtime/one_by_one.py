"""Read texts one by one, as many at a time as there are threads.

In: tokenized texts. Out: each text's pooled vectors, in the order of the texts. For int8, where texts of one batch
would share the scales of their activations, and where the weights are small enough to stay in a core's caches.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from bothways.bundle.manifest import Member
from bothways.runtime.graph import EncoderSession
from bothways.runtime.slots import SLOTS, First, Pooled, SlotEngine, Tally
from bothways.text.reading import TokenizedText

_TEXTS_A_THREAD = 32


class OneByOneEngine(SlotEngine):
    """Reads texts with every member of an ensemble, no two texts in one batch.

    Laws 2, 4 and 6 hold as they do in slots: windows are cut in the same places.
    """

    def __init__(self, members: list[Member], sessions: list[EncoderSession], threads: int) -> None:
        """Take sessions of one thread each; so many texts, or directions of one text, are read at a time."""
        super().__init__(members, sessions)
        self._threads = threads
        self._alone = [SlotEngine([member], [session]) for member, session in zip(members, sessions, strict=True)]

    def without(self, number: int) -> OneByOneEngine:
        """Give an engine of all members but one."""
        rest = super().without(number)
        return OneByOneEngine(rest.members, rest.sessions, self._threads)

    def run_cascade(
        self, texts: Iterable[TokenizedText], lookahead: int, first: First | None, tally: Tally | None = None
    ) -> Iterator[list[Pooled | None]]:
        """Give what ``SlotEngine.run_cascade`` gives."""
        most = min(lookahead, SLOTS, _TEXTS_A_THREAD * self._threads)
        waiting: deque[tuple[TokenizedText, list[Future[list[Pooled | None]]]]] = deque()

        def told() -> list[Pooled | None]:
            text, parts = waiting.popleft()
            pooled = [vector for part in parts for vector in part.result()]
            if tally is not None:
                tokens = len(text) * sum(vector is not None for vector in pooled)
                tally.needed += tokens
                tally.executed += tokens
            return pooled

        pool = ThreadPoolExecutor(self._threads, "bothways")
        try:
            for text in texts:
                if first is not None:
                    parts = [pool.submit(self._read, text, first)]
                else:
                    parts = [pool.submit(self._read_by, number, text) for number in range(len(self.members))]
                waiting.append((text, parts))
                if len(waiting) >= most:
                    yield told()
            while waiting:
                yield told()
        finally:
            pool.shutdown(cancel_futures=True)

    def _read_by(self, number: int, text: TokenizedText) -> list[Pooled | None]:
        return list(next(self._alone[number].run([text], lookahead=1)))

    def _read(self, text: TokenizedText, first: First) -> list[Pooled | None]:
        pooled = self._read_by(first.member, text)
        is_enough = pooled[0] is not None and first.is_enough(pooled[0])
        return [
            pooled[0] if number == first.member else None if is_enough else self._read_by(number, text)[0]
            for number in range(len(self.members))
        ]
