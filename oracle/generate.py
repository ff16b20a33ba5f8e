"""Make 800 small learners with the real fastai, each of another kind: python oracle/generate.py --out DIR.

Run with the oracle's python. `generator/learners1.py` and `generator/learners2.py` are the tables of fastai 1.0.61 and
2.8.12. `versions1.py` and `versions2.py` are those of the other versions in the environment's `versions` folder. Each
runs in a process of its own. `compare_imports.py` imports what this makes and compares it with `learn.predict`. DIR
must lie outside git.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
VERSIONS = Path(os.environ.get("FASTAI_VERSIONS", Path(sys.prefix) / "versions"))
"""A folder per other version of fastai, made by setup.sh."""
SAMPLED = "2.3.1"
"""The other version that the quick test uses: the last one with `AWD_QRNN`."""


def main() -> None:
    """Run the tables, each in a process of its own, because all versions are called fastai."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True, help="folder of the learners")
    parser.add_argument("--only", nargs="*", default=[], metavar="PATTERN", help="learners; all by default")
    parser.add_argument("--sample", action="store_true", help="only those of the quick test")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)

    started, began = time.monotonic(), time.time()
    patterns = ["--sample"] if arguments.sample else arguments.only
    for table, environment in tables(SAMPLED if arguments.sample else "[12].*"):
        command = [sys.executable, str(HERE / "generator" / table), str(arguments.out.resolve()), *patterns]
        subprocess.run(command, check=True, env=environment)
    if not patterns:
        remove_older(arguments.out, began)
    learners = sum(1 for _ in arguments.out.glob("[!.]*/case.json"))
    print(json.dumps({"learners": learners, "seconds": round(time.monotonic() - started)}))


def tables(others: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the script of each table, and the environment variables that it needs.

    Args:
        others: Pattern of the other versions.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
    yield "learners1.py", environment
    yield "learners2.py", environment
    for version in sorted(VERSIONS.glob(others)):
        if version.name.startswith("1."):
            yield "versions1.py", {**environment, "FASTAI1_FOLDER": str(version)}
        else:
            path = os.pathsep.join([str(version), *filter(None, [os.environ.get("PYTHONPATH")])])
            yield "versions2.py", {**environment, "PYTHONPATH": path}


def remove_older(out: Path, began: float) -> None:
    """Remove learners that no table has any more."""
    for case in out.glob("*/case.json"):
        if case.stat().st_mtime < began:
            shutil.rmtree(case.parent)


if __name__ == "__main__":
    main()
