"""The answer to a request: the predictions for its texts, and how long each stage took."""

from __future__ import annotations

from dataclasses import dataclass

from bothways.errors import TextError
from bothways.runtime.prediction import Prediction
from bothways.text.reading import TokenizedText


@dataclass(frozen=True, eq=False)
class Classified:
    """The prediction for one text, with the tokens it was computed from."""

    prediction: Prediction
    text: TokenizedText


@dataclass(frozen=True, eq=False)
class Answer:
    """The results for the texts of one request, in the order of the texts.

    Attributes:
        items: The prediction per text, or the error of a text that can't be classified.
        tokenize_s: Seconds until all texts were tokenized.
        wait_s: Seconds from then until the first text joined the batch.
        read_s: Seconds from then until the last prediction.
    """

    items: list[Classified | TextError]
    tokenize_s: float
    wait_s: float
    read_s: float

    @property
    def stages(self) -> dict[str, float]:
        """The seconds of each stage, in their order."""
        return {"tokenize": self.tokenize_s, "wait": self.wait_s, "read": self.read_s}

    @property
    def classified(self) -> int:
        """The number of texts with a prediction."""
        return sum(isinstance(item, Classified) for item in self.items)

    @property
    def predictions(self) -> list[Prediction]:
        """The predictions, without the errors."""
        return [item.prediction for item in self.items if isinstance(item, Classified)]

    @property
    def tokens(self) -> int:
        """The number of tokens of all texts together."""
        return sum(len(item.text) for item in self.items if isinstance(item, Classified))
