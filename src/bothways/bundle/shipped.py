"""Find the packs of language models that come with the package.

In: a pack's name, or a path. Out: a path. Their cards say what they were trained on and how.
"""

from __future__ import annotations

import os
from pathlib import Path

from bothways.errors import BundleMissing

SHIPPED_PACKS = ("en-small",)
NO_PACK = "none"
_FOLDER = Path(__file__).parents[1] / "packs"


def pack_path(pack: str | os.PathLike[str]) -> Path:
    """Return where a pack is: one that ships, by its name, or any other by its path.

    A folder of the same name is meant by ``./en-small``.

    Raises:
        BundleMissing: Nothing is at the path, and no pack that ships has that name.
    """
    path = _FOLDER / pack if pack in SHIPPED_PACKS else Path(pack)
    if not path.exists():
        raise BundleMissing(f"{path}: there is no pack here; by name there is {', '.join(SHIPPED_PACKS)}")
    return path
