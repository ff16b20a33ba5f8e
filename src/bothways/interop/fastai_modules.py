"""Read the torch modules of a fastai model: their tensors, and the part of a text that a classifier pools.

Input: the record of a module. Output: arrays by the names of ``state_dict``, and the pooling. Nothing is executed.
"""

from __future__ import annotations

import numpy as np

from bothways.bundle.manifest import FastaiPooling
from bothways.errors import ForeignModelError
from bothways.interop.facts import LONGEST_NAME, Fact, Work, class_name, is_encodable
from bothways.interop.pickle_reader import Record

MOST_TENSORS = 10_000
_DEEPEST_MODULE = 50
_LARGEST_WINDOW = 1_000_000
_LONGEST_TAIL = 1_000_000_000


def pooling_of(model: Record, work: Work) -> FastaiPooling | None:
    """Return the part of a text that a classifier's sentence encoder pools, or None if there is no such encoder."""
    for record in work.everything_below(model):
        kind = class_name(record)
        if kind not in ("SentenceEncoder", "MultiBatchEncoder") or not isinstance(record, Record):
            continue
        if not isinstance(record.state, dict):
            continue
        encoder = Fact(record, kind, work)
        window, longest = encoder.part("bptt").integer(1, _LARGEST_WINDOW), encoder.part("max_len")
        tokens = None if longest.value is None else longest.integer(1, _LONGEST_TAIL)
        is_version_1 = kind == "MultiBatchEncoder"
        # v1 pools the windows that begin *after* the position max_len tokens before the end. v2 also pools a window
        # that begins there.
        tail = tokens - 1 if tokens is not None and is_version_1 else tokens
        if tail is not None and tail < window:
            raise ForeignModelError(
                f"{work.source} pools max_len={tokens} tokens in windows of bptt={window}, expected at least one window"
            )
        return FastaiPooling(window_tokens=window, tail_tokens=tail, last_skips_padding=not is_version_1)
    return None


def module_state(module: Record, work: Work) -> dict[str, object]:
    """Return the arrays of a module and its submodules by name, like ``state_dict``."""
    found: dict[str, object] = {}
    waiting: list[tuple[str, object, int]] = [("", module, 0)]
    visited = 0
    while waiting:
        before, record, depth = waiting.pop()
        visited += 1
        if not isinstance(record, Record) or not isinstance(record.state, dict) or depth > _DEEPEST_MODULE:
            continue
        for part in ("_parameters", "_buffers", "_modules"):
            content = record.state.get(part)
            if not isinstance(content, dict):
                continue
            work.charge(len(content))
            for key, value in content.items():
                name = f"{before}{key}" if isinstance(key, str) and len(key) <= LONGEST_NAME else ""
                if not is_name(name):
                    raise Fact(key, f"a name in {part} of {before or 'the model'}", work).refusal("a short name")
                if part == "_modules":
                    waiting.append((f"{name}.", value, depth + 1))
                elif isinstance(value, np.ndarray):
                    found[name] = value
        if max(len(found), len(waiting), visited) > MOST_TENSORS:
            raise ForeignModelError(
                f"{work.source} has more than {MOST_TENSORS} tensors or modules, expected an AWD-LSTM"
            )
    return found


def is_name(name: str) -> bool:
    """Return whether a text can be the name of a tensor: it is short and can be written to a file and a terminal."""
    return 0 < len(name) <= LONGEST_NAME and name.isprintable() and is_encodable(name)
