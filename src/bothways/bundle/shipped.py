"""Find the packs of pretrained language models that are installed with the package.

The card of each pack describes its training data and training.
"""

from __future__ import annotations

import os
from pathlib import Path

from bothways.errors import BundleMissing

SHIPPED_PACKS = ("en-small",)
NO_PACK = "none"
"""The name that stands for training from scratch."""
_FOLDER = Path(__file__).parents[1] / "packs"


def pack_path(pack: str | os.PathLike[str]) -> Path:
    """Return the path of a pack.

    Args:
        pack: The name of a pack in ``SHIPPED_PACKS``, or a path. Names take precedence: ``./en-small`` is a path.

    Raises:
        BundleMissing: The path does not exist, and no shipped pack has that name.
    """
    path = _FOLDER / pack if pack in SHIPPED_PACKS else Path(pack)
    if not os.path.exists(path):  # noqa: PTH110  (Path.exists raises if the path is too long)
        raise BundleMissing(f"pack not found: {path}. Pass the path of a pack or one of {', '.join(SHIPPED_PACKS)}")
    return path
