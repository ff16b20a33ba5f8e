"""Fuzz all readers, one after the other: ``python -m tests.fuzz [READER ...]``.

Coverage-guided mutation by atheris (libFuzzer). ``FUZZ_SECONDS`` limits the time per reader and defaults to 20. The
inputs that reach new code are kept in ``build/fuzz`` and used by the next run, and the number of cases is added up in
``build/fuzz/counts.json``. An input that ends in anything but a value or a ``BothwaysError`` stops its reader, and is
stored in ``build/fuzz/found``. After the fix it goes to ``tests/fuzz/seeds``, which ``make test`` replays.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from tests.fuzz.targets import SEEDS, TARGETS, Target

BUILD = Path("build/fuzz")
COUNTS = BUILD / "counts.json"
MEMORY_LIMIT_MB = 3000
LONGEST_CASE_S = 60


def fuzz(name: str, target: Target, seconds: int) -> int:
    """Fuzz a reader for some seconds, and return libFuzzer's exit status: 0 if nothing was found."""
    corpus, found, words = BUILD / "corpus" / target.folder, BUILD / "found", BUILD / f"{target.folder}.words"
    for folder in (corpus, found):
        folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    quoted = ["".join(f"\\x{byte:02x}" for byte in word) for word in target.words or (b"\0",)]  # no empty dictionary
    words.write_text("".join(f'"{word}"\n' for word in quoted), encoding="ascii")
    options = [
        f"-max_total_time={seconds}",
        f"-max_len={target.longest}",
        f"-rss_limit_mb={MEMORY_LIMIT_MB}",
        f"-timeout={LONGEST_CASE_S}",
        f"-artifact_prefix={found}/{target.folder}-",
        f"-dict={words}",
        "-print_final_stats=1",
        "-verbosity=0",
        str(corpus),
    ]
    if (SEEDS / target.folder).is_dir():
        options.append(str(SEEDS / target.folder))
    command = [sys.executable, "-m", "tests.fuzz.one", name, *options]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    match = re.search(r"stat::number_of_executed_units:\s+(\d+)", done.stderr)
    cases = int(match[1]) if match else 0
    counts = json.loads(COUNTS.read_text(encoding="utf-8")) if COUNTS.exists() else {}
    counts[name] = counts.get(name, 0) + cases
    COUNTS.write_text(json.dumps(counts, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    print(f"{name}: {cases} cases, {counts[name]} in all", flush=True)
    if done.returncode:
        print(done.stderr[-6000:], flush=True)
    return done.returncode


def main() -> None:
    """Fuzz the readers that the command line names, or all of them."""
    seconds = int(os.environ.get("FUZZ_SECONDS", "20"))
    names = sys.argv[1:] or list(TARGETS)
    if failed := [name for name in names if fuzz(name, TARGETS[name], seconds)]:
        sys.exit(f"inputs that are neither read nor refused: {', '.join(failed)}. See {BUILD}/found")


if __name__ == "__main__":
    main()
