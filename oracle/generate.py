"""Make ≥ 250 small learners with the real fastai, each of another kind: python oracle/generate.py --out DIR.

Run with the oracle's python. `generator/learners1.py` and `generator/learners2.py` are the tables of fastai 1 and 2, one
process each. `compare_imports.py` imports what this makes and compares it with `learn.predict`. DIR must lie outside git.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent


def main() -> None:
    """Run the tables in separate processes, because all versions are called fastai."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True, help="folder of the learners")
    parser.add_argument("--only", nargs="*", default=[], metavar="PATTERN", help="learners; all by default")
    parser.add_argument("--sample", action="store_true", help="only those of the quick test")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)

    started = time.monotonic()
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
    for table in ("learners1.py", "learners2.py"):
        patterns = ["--sample"] if arguments.sample else arguments.only
        command = [sys.executable, str(HERE / "generator" / table), str(arguments.out.resolve()), *patterns]
        subprocess.run(command, check=True, env=environment)
    learners = sum(1 for _ in arguments.out.glob("[!.]*/case.json"))
    print(json.dumps({"learners": learners, "seconds": round(time.monotonic() - started)}))


if __name__ == "__main__":
    main()
