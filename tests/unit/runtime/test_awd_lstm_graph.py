from __future__ import annotations

import numpy as np

from bothways.bundle.manifest import Architecture
from bothways.runtime import awd_lstm_graph
from bothways.runtime.awd_lstm_graph import AwdLstmGraph


def test_the_output_is_the_hidden_state_of_the_last_layer() -> None:
    layout = AwdLstmGraph(Architecture(vocabulary_size=9, width_embedding=4, width_hidden=6, layers=3)).layout
    assert layout.state_names == ("hidden_0", "cell_0", "hidden_1", "cell_1", "hidden_2", "cell_2")
    assert layout.state_widths == (6, 6, 6, 6, 4, 4)
    assert layout.state_names[layout.output_state] == "hidden_2"
    assert layout.output_width == 4


def test_gates_are_reordered_for_onnx() -> None:
    stacked = np.arange(8, dtype=np.float32)  # two rows per gate: input, forget, cell, output
    assert awd_lstm_graph._in_onnx_gate_order(stacked).tolist() == [0, 1, 6, 7, 2, 3, 4, 5]
