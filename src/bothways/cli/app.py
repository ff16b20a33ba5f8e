"""Assemble the commands, and turn every error into one line and an exit status.

Exit status: 0 success, 1 bad data or a failed check, 2 wrong use, 70 a bug in bothways, 130 interrupted.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
import traceback
from collections.abc import Iterator
from typing import Annotated, NoReturn

import typer

import bothways
from bothways.cli.abstention import abstention
from bothways.cli.audit import audit
from bothways.cli.bench import bench
from bothways.cli.direction import direction
from bothways.cli.distill import distill
from bothways.cli.drift import drift
from bothways.cli.early_exit import early_exit
from bothways.cli.evaluate import evaluate
from bothways.cli.explain import explain
from bothways.cli.export_onnx import export_onnx
from bothways.cli.import_fastai import import_fastai
from bothways.cli.info import info
from bothways.cli.label_next import label_next
from bothways.cli.lr_find import lr_find
from bothways.cli.packs import packs
from bothways.cli.predict import predict
from bothways.cli.pretrain import pretrain
from bothways.cli.push import push
from bothways.cli.report import report
from bothways.cli.serve import serve
from bothways.cli.sign import sign
from bothways.cli.train import train
from bothways.cli.tune import tune
from bothways.cli.update import update
from bothways.cli.verify import verify
from bothways.errors import LONGEST_MESSAGE, BothwaysError, shown

app = typer.Typer(
    name="bothways",
    help="Train text classifiers that read forward and backward, and ship exactly the model you trained.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@contextlib.contextmanager
def _errors_in_one_line() -> Iterator[None]:
    """Turn every error of the block, or of a command that this decorates, into one line and an exit status."""
    try:
        yield
    except typer.Exit:
        raise
    except BothwaysError as error:
        _exit(f"error: {error}", error.exit_code)
    except KeyboardInterrupt:
        _exit("interrupted: run the same command again to continue", 130)
    except BrokenPipeError:
        _discard_output()
        sys.exit(141)
    except Exception as error:  # noqa: BLE001  (the outermost frame)
        if os.environ.get("BOTHWAYS_TRACEBACK"):
            traceback.print_exc()
        if isinstance(error, OSError) and error.errno == errno.ENAMETOOLONG:
            _exit("error: a path is too long, expected at most 255 bytes per name and 4096 in all", 1)
        _exit(
            f"internal error: {type(error).__name__}: {error}. This is a bug in bothways: please report it with the "
            "output of the same command with BOTHWAYS_TRACEBACK=1",
            70,
        )


def _exit(message: str, status: int) -> NoReturn:
    sys.stderr.write(f"bothways: {shown(message, LONGEST_MESSAGE + 100)}\n")
    sys.exit(status)


def _discard_output() -> None:
    """Redirect buffered output to the null device, so that Python does not report a closed pipe when it exits."""
    null_device = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(null_device, stream.fileno())


_COMMANDS = (
    train,
    predict,
    evaluate,
    report,
    audit,
    label_next,
    explain,
    serve,
    verify,
    sign,
    info,
    push,
    packs,
    bench,
    early_exit,
    abstention,
    drift,
    distill,
    update,
    tune,
    lr_find,
    pretrain,
    import_fastai,
    direction,
    export_onnx,
)
for command in _COMMANDS:
    app.command()(_errors_in_one_line()(command))  # inside typer, which handles an interrupt and a closed pipe itself


def _print_version(value: bool) -> None:
    if value:
        typer.echo(f"bothways {bothways.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line and exit with its status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that cannot show a label must not fail
    with _errors_in_one_line():
        app()
