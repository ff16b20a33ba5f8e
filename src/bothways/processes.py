"""Processes of this package: commands that run a module in a subprocess, and signals while the server starts.

The subprocess imports this package from the same place as its parent, and no module from the user's working directory.
``multiprocessing`` is not used because it would run the user's script again in every process.
"""

from __future__ import annotations

import os
import signal
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


def handle_signals_while_starting() -> None:
    """Exit with status 0 on SIGTERM and SIGINT, and ignore SIGHUP, if this process starts ``bothways serve``.

    Importing the modules takes a second, until which the server can't handle signals. The first process of a container
    would ignore SIGTERM meanwhile, and any other process would not exit with the status of the server.
    """
    arguments = sys.argv
    if arguments[1:2] != ["serve"]:
        return
    is_module = arguments[0] == "-m" and sys.orig_argv[-len(arguments)] == "bothways"
    if is_module or Path(arguments[0]).name == "bothways":
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: os._exit(0))
        if hasattr(signal, "SIGHUP"):
            signal.signal(signal.SIGHUP, signal.SIG_IGN)  # nothing is loaded yet that could be reloaded
