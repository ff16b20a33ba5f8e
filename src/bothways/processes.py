"""Start processes of our own that find this package wherever it was imported from, and no module of a user's folder.

In: the name of a module. Out: a command and its environment. Not multiprocessing: that would run a user's script again
in every process.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

_SOURCE = str(Path(__file__).parents[1])


def module_command(module: str, *arguments: str) -> list[str]:
    """Return the command that runs a module of this package in a fresh process."""
    return [sys.executable, "-P", "-m", module, *arguments]


def module_environment(**variables: str) -> dict[str, str]:
    """Return the environment for ``module_command``: ours, where this package is found, with some variables added."""
    search_path = os.pathsep.join([_SOURCE, *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": search_path, **variables}
