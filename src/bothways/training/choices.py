"""Values of the options of a training run. Imports no torch, so that the command line can list them at once."""

from __future__ import annotations

from typing import Literal

Size = Literal["tiny", "small", "base"]
"""Preset of hyperparameters for a model trained from scratch."""
Directions = Literal["both", "forward", "backward"]
"""Reading directions to train."""
Device = Literal["cpu", "cuda"]
"""Where to train."""
