"""Run the command line in its own process, as a user does."""

import subprocess
import sys


def run_bothways(*arguments: str, timeout_s: float = 300, **options: object) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "bothways", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout_s, **options)  # type: ignore[call-overload, no-any-return]
