"""Put the verbs together, and turn every error into one line and an exit status.

Exit status: 0 done, 1 bad data or a failed check, 2 wrong use, 130 interrupted, 70 a fault of ours.
"""

from __future__ import annotations

import os
import sys
import traceback
from typing import Annotated

import typer

import bothways
from bothways.cli.evaluate import evaluate
from bothways.cli.info import info
from bothways.cli.predict import predict
from bothways.cli.pretrain import pretrain
from bothways.cli.train import train
from bothways.cli.verify import verify
from bothways.errors import BothwaysError

app = typer.Typer(
    name="bothways",
    help="Train text classifiers that read forward and backward, and ship exactly the model you trained.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for verb in (train, predict, evaluate, verify, info, pretrain):
    app.command()(verb)


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
    """Run the command line and leave with its exit status."""
    try:
        app()
    except BothwaysError as error:
        _leave(f"error: {error}", error.exit_code)
    except KeyboardInterrupt:
        _leave("interrupted: nothing was published; run the same command again to start over", 130)
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115  (so that Python does not complain at its exit)
        sys.exit(141)
    except Exception as error:  # noqa: BLE001  (the outermost frame)
        if os.environ.get("BOTHWAYS_TRACEBACK"):
            traceback.print_exc()
        _leave(
            f"internal error: {type(error).__name__}: {error} (a fault of bothways: please report it with the output "
            "of the same command under BOTHWAYS_TRACEBACK=1)",
            70,
        )


def _leave(message: str, status: int) -> None:
    one_line = " ".join(message.splitlines())
    sys.stderr.write(f"bothways: {one_line}\n")
    sys.exit(status)
