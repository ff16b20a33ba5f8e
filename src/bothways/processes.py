"""Build commands that run a module of this package in a subprocess.

The subprocess imports this package from the same place as its parent, and no module from the user's working directory.
``multiprocessing`` is not used because it would run the user's script again in every process.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

_SOURCE = str(Path(__file__).parents[1])


def module_command(module: str, *arguments: str) -> list[str]:
    """Return the command that runs a module of this package in a new process."""
    return [sys.executable, "-P", "-m", module, *arguments]


def module_environment(**variables: str) -> dict[str, str]:
    """Return the environment for ``module_command``: the current one, a search path with this package, and variables.

    Args:
        **variables: Environment variables to add or replace.
    """
    search_path = os.pathsep.join([_SOURCE, *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": search_path, **variables}
