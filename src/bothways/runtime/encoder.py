"""Define the interface between an encoder's graph and everything that runs it.

Sessions, continuous batching, streaming and the ONNX export know an encoder by its layout and by the values that it
adds to a graph. A new kind of encoder is a module that implements ``Encoder`` and a line in ``sessions.encoder_of``.

Letters: T tokens, B texts, V vocabulary, E width of the embedding and of the output.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

from bothways.bundle.weights import Weights
from bothways.runtime.graph_builder import GraphBuilder

Precision = Literal["float32", "int8"]
"""Precision of the matrix products. int8 quantizes the weights of each gate to 7 bits and activations to 8 bits."""
PRECISIONS: tuple[Precision, ...] = get_args(Precision)


@dataclass(frozen=True)
class EncoderLayout:
    """The state that an encoder carries from one window of tokens to the next.

    Attributes:
        state_names: A name for each array of the state, unique within the encoder.
        state_widths: Width of each array. For B texts, array *i* is (B, state_widths[i]) float32, and all zero at the
            beginning of a text.
        output_state: Index of the array that is the encoder's output for the last token read.
    """

    state_names: tuple[str, ...]
    state_widths: tuple[int, ...]
    output_state: int

    @property
    def output_width(self) -> int:
        """Width E of the encoder's outputs."""
        return self.state_widths[self.output_state]


@dataclass(frozen=True)
class EncoderValues:
    """Names of the values that an encoder adds to a graph.

    Attributes:
        outputs: Outputs for each token, (T, B, E) float32, with any values after a text's end.
        states: State after each text's last token, each (1, B, width). Empty if no state is carried.
        embedding: The embedding matrix, (V, E or wider) float32.
        beyond_edges: A scalar that is above 0 if a text may have changed the bits of another one, or None if that
            cannot happen. The batch must then be read again, one text and one window at a time.
    """

    outputs: str
    states: list[str]
    embedding: str
    beyond_edges: str | None = None


class Encoder(Protocol):
    """An encoder of known sizes that can add itself to a graph."""

    @property
    def layout(self) -> EncoderLayout:
        """The state that it carries."""

    @property
    def batch_texts(self) -> int:
        """Largest number of texts to read at once. With more of them, a token takes as long and memory grows."""

    def is_compute_bound(self, precision: Precision) -> bool:
        """Return whether arithmetic limits the speed, not the time to fetch the weights from memory.

        Two such encoders are fastest side by side, each on half of the cores: cores that share no product wait for
        none.
        """

    def add(
        self,
        graph: GraphBuilder,
        weights: Weights,
        ids: str,
        lengths: str,
        states: Sequence[str] = (),
        precision: Precision = "float32",
    ) -> EncoderValues:
        """Add the encoder to a graph.

        Args:
            graph: Graph to extend.
            weights: The member's arrays by tensor name.
            ids: Name of the token ids in reading order, (T, B) int64, with any valid id after a text's end.
            lengths: Name of the number of tokens of each text, (B,) int32, each in 1..T.
            states: Names of the carried state, each (1, B, width), in the layout's order. Defaults to none: texts begin
                here, and their last state is not an output.
            precision: Precision of the layers' products.
        """
