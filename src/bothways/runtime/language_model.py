"""Compute the loss of texts under the language models of a pack.

Input: a text and a direction. Output: the mean negative log-likelihood of its tokens, read in that direction.
"""

from __future__ import annotations

from bothways.bundle.read import Bundle
from bothways.runtime.sessions import LanguageModelSession
from bothways.text.fields import Text
from bothways.text.reading import Direction, read, require_direction
from bothways.text.tokenizer import Tokenizer


class LanguageModel:
    """The language models of a pack, one per direction."""

    def __init__(self, bundle: Bundle) -> None:
        self.tokenizer: Tokenizer = bundle.tokenizer
        self._name = bundle.name
        self._manifest = bundle.manifest
        self._sessions = {
            member.direction: LanguageModelSession(member.architecture, bundle.weights[member.direction])
            for member in bundle.manifest.members
        }

    def loss(self, text: Text, direction: Direction) -> float:
        """Return the mean negative log-likelihood of a text's tokens, in nats per token.

        Args:
            text: A validated text.
            direction: Direction of the model that reads it.

        Returns:
            The loss, or 0 for a text without words.

        Raises:
            DirectionError: The pack has no model of this direction.
        """
        require_direction(direction, self._manifest.directions, self._name)
        tokens = self.tokenizer.tokenize(text)
        if len(tokens) < 2:
            return 0.0
        return self._sessions[direction].loss(read(tokens, direction, self._manifest.member(direction).special_tokens))
