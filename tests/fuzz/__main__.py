"""Fuzz the readers, one after the other: ``python -m tests.fuzz [READER ...]``.

Coverage-guided mutation by atheris (libFuzzer). ``FUZZ_SECONDS`` limits the time per reader and defaults to 20. The
inputs that reach new code are kept in ``build/fuzz`` and used by the next run. The number of cases is added up in
``tests/fuzz/counts.json``, per reader and version of its code: a reader that changed begins again at 0. Without names,
the readers with the fewest cases come first, and those with ``GOAL`` cases are skipped unless all have as many.

``python -m tests.fuzz --report`` writes the counts into the table of ``docs/security.md``.

An input that ends in anything but a value or a ``BothwaysError`` stops its reader, and is stored in
``build/fuzz/found``. After the fix it goes to ``tests/fuzz/seeds``, which ``make test`` replays.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import subprocess
import sys
from pathlib import Path

from tests.fuzz.code import code_of
from tests.fuzz.targets import SEEDS, TARGETS, Target

BUILD = Path("build/fuzz")
COUNTS = Path(__file__).with_name("counts.json")
PAGE = Path(__file__).parents[2] / "docs" / "security.md"
BEGIN, END = "<!-- python -m tests.fuzz --report: begin -->\n", "<!-- end -->\n"
GOAL = 1_000_000
MEMORY_LIMIT_MB = 3000
LONGEST_CASE_S = 60


def fuzz(name: str, target: Target, seconds: int) -> int:
    """Fuzz a reader for some seconds or up to the goal, and return libFuzzer's exit status: 0 if nothing was found."""
    corpus, found, words = BUILD / "corpus" / target.folder, BUILD / "found", BUILD / f"{target.folder}.words"
    for folder in (corpus, found):
        folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(target.seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    quoted = ["".join(f"\\x{byte:02x}" for byte in word) for word in target.words or (b"\0",)]  # no empty dictionary
    words.write_text("".join(f'"{word}"\n' for word in quoted), encoding="ascii")
    missing = GOAL - cases_of(name)
    options = [
        f"-max_total_time={seconds}",
        f"-runs={missing if missing > 0 else -1}",
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
    found_cases = re.findall(r"stat::number_of_executed_units:\s+(\d+)|^#(\d+)\s", done.stderr, re.MULTILINE)
    cases = max((int(total or line) for total, line in found_cases), default=0)
    add(name, cases)
    speed = re.search(r"stat::average_exec_per_sec:\s+(\d+)", done.stderr)
    per_second = f" ({int(speed[1]):,} cases/s)" if speed else ""
    print(f"{name}: {cases:,} cases{per_second}, {cases_of(name):,} with the present code", flush=True)
    if done.returncode:
        print(done.stderr[-6000:], flush=True)
    return done.returncode


def counts() -> dict[str, dict[str, str | int]]:
    """Return the stored counts: per reader, its code, the cases with this code and those with earlier code."""
    return dict(json.loads(COUNTS.read_text(encoding="utf-8")))


def cases_of(name: str) -> int:
    """Return the number of cases that the present code of a reader has had."""
    stored = counts().get(name, {})
    return int(stored["cases"]) if stored.get("code") == code_of(name) else 0


def earlier_cases_of(name: str) -> int:
    """Return the number of cases that earlier code of a reader has had."""
    stored = counts().get(name, {})
    return int(stored.get("earlier", 0)) + int(stored.get("cases", 0)) - cases_of(name)


def add(name: str, cases: int) -> None:
    """Add cases to the stored count of a reader. Two runs may do so at the same time."""
    with COUNTS.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        _add(name, cases)


def _add(name: str, cases: int) -> None:
    stored = counts()
    stored[name] = {"code": code_of(name), "cases": cases_of(name) + cases, "earlier": earlier_cases_of(name)}
    COUNTS.write_text(json.dumps(stored, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def report() -> str:
    """Return the counts as a table in Markdown, the largest first."""
    rows = sorted(((cases_of(name), earlier_cases_of(name), name) for name in TARGETS), reverse=True)
    lines = [f"| {name} | {cases:,} | {earlier:,} |" for cases, earlier, name in rows]
    total = f"| all | {sum(row[0] for row in rows):,} | {sum(row[1] for row in rows):,} |"
    return "\n".join(["| reader | cases | with earlier code |", "|---|---|---|", *lines, total]) + "\n"


def write_report() -> None:
    """Write the counts into the page, and print them."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}{report()}{END}{after}", encoding="utf-8")
    print(report(), end="")


def main() -> None:
    """Fuzz the readers that the command line names, or all that need more cases. ``--report`` updates the page.

    If none needs more, all are fuzzed.
    """
    if sys.argv[1:] == ["--report"]:
        write_report()
        return
    seconds = int(os.environ.get("FUZZ_SECONDS", "20"))
    names = sys.argv[1:] or sorted((name for name in TARGETS if cases_of(name) < GOAL), key=cases_of) or [*TARGETS]
    if unknown := [name for name in names if name not in TARGETS]:
        sys.exit(f"no reader {unknown[0]}, expected one of: {', '.join(TARGETS)}")
    if failed := [name for name in names if fuzz(name, TARGETS[name], seconds)]:
        sys.exit(f"inputs that are neither read nor refused: {', '.join(failed)}. See {BUILD}/found")


if __name__ == "__main__":
    main()
