"""Make the fixtures of the fastai importer: files of the real fastai 1.0.61 and 2.8.12, and their predictions.

Run: .oracle/bin/python oracle/make_fixtures.py --out DIR [--only NAME ...]
NAME is a case or a pattern such as 'v1-*'. Texts to train on are the demo's messages, and real ones too where
BOTHWAYS_DATA names their folder. DIR must lie outside git: the files hold words of what they were trained on.
README.md says what a case holds.
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
    """Run the two halves in separate processes, because both packages are called fastai."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True, help="folder of the cases")
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME", help="cases or patterns; all by default")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)

    started = time.monotonic()
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
    for half in ("fixtures1.py", "fixtures2.py"):
        command = [sys.executable, str(HERE / half), str(arguments.out.resolve()), *arguments.only]
        subprocess.run(command, check=True, env=environment)
    cases = sorted(path.parent.name for path in arguments.out.glob("*/case.json"))
    print(json.dumps({"cases": len(cases), "seconds": round(time.monotonic() - started)}))


if __name__ == "__main__":
    main()
