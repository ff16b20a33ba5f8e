"""The command line that benchmarks/speed and benchmarks/serve share: ``run`` measures, ``report`` updates a page."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.speed.models import ROOT, SIZES

Parser = argparse.ArgumentParser


def run_command(
    name: str,
    description: str,
    page: Path,
    add_options: Callable[[Parser], None],
    measure: Callable[[argparse.Namespace], None],
    write_report: Callable[[Path, Path], None],
) -> None:
    """Parse the command line and run one of the two commands.

    Args:
        name: Name of the benchmark: its folder in ``benchmarks`` and in ``build``.
        description: Description for ``--help``.
        page: Page with the tables.
        add_options: Adds the options of ``run`` that only this benchmark has.
        measure: Measures with the parsed options.
        write_report: Writes the results of a folder into the page.
    """
    results = ROOT / "benchmarks" / name / "results"
    parser = Parser(prog=f"python -m benchmarks.{name}", description=description)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="measure models of one size")
    run.add_argument("--size", choices=list(SIZES), default="base", help="size of the models, %(default)s by default")
    add_options(run)
    run.add_argument("--oracle", type=Path, default=ROOT / ".oracle", help="environment with fastai")
    run.add_argument("--work", type=Path, default=ROOT / "build" / name, help="folder for models and texts")
    run.add_argument("--results", type=Path, default=results, help="folder for the results")
    report = commands.add_parser("report", help="update the tables of the page")
    report.add_argument("--results", type=Path, default=results, help="folder of the results")
    report.add_argument("--page", type=Path, default=page, help="page to update")
    arguments = parser.parse_args()
    if arguments.command == "report":
        write_report(arguments.results, arguments.page)
        return
    if "BOTHWAYS_DATA" not in os.environ:
        sys.exit("BOTHWAYS_DATA is not set: set it to the folder of the data sets")
    measure(arguments)
