"""Options that several commands share, and the console for results."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from bothways.bundle.manifest import EncoderKind
from bothways.data.dialect import Quotes, TableFormat
from bothways.runtime.encoder import Precision
from bothways.terminal import SafeConsole
from bothways.text.splitters import WordsBy
from bothways.training.choices import Device

BundlePath = Annotated[
    str, typer.Argument(metavar="BUNDLE", help="Directory of a bundle, or a reference such as hf://USER/NAME@REVISION.")
]
TrainedTextColumns = Annotated[
    list[str] | None,
    typer.Option("--text", metavar="COLUMN", help="Text column, repeatable. Defaults to those used in training."),
]
TrainedLabelColumn = Annotated[
    list[str] | None,
    typer.Option(
        "--label",
        metavar="COLUMN",
        help="Label column, repeatable for several targets. Defaults to the one used in training.",
    ),
]
FormatOption = Annotated[
    TableFormat | None,
    typer.Option(
        "--format", help="Format of the table. Defaults to that of its suffix, and to CSV for standard input."
    ),
]
DelimiterOption = Annotated[
    str | None,
    typer.Option("--delimiter", metavar="CHARACTER", help="Character between fields, such as ; or tab."),
]
QuotesOption = Annotated[
    Quotes | None,
    typer.Option(
        "--quotes",
        help="none: quotation marks are ordinary characters. double: they enclose fields, also over several lines.",
    ),
]
EncodingOption = Annotated[
    str | None,
    typer.Option("--encoding", metavar="NAME", help="Encoding of a text file, such as cp1252. Defaults to utf-8."),
]
NoHeaderOption = Annotated[
    bool,
    typer.Option("--no-header", help="The table has no header line. Its columns are named 1, 2 and so on."),
]
DropInvalid = Annotated[
    bool, typer.Option("--drop-invalid", help="Leave out rows without a usable text, label or weight, and list them.")
]
Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Random seed.")]
Config = Annotated[
    Path | None, typer.Option(metavar="FILE.toml", help="File of hyperparameters; see docs/hyperparameters.md.")
]
DeviceOption = Annotated[Device, typer.Option("--device", help="Where to train.")]
EncoderOption = Annotated[
    EncoderKind | None,
    typer.Option("--encoder", help="Kind of the encoder, AWD-LSTM or QRNN. Defaults to that of the pack, or to lstm."),
]
Plot = Annotated[
    Path | None,
    typer.Option(
        "--plot", metavar="FILE", help="Draw the loss curves at the end, as PNG, SVG or PDF (needs bothways[plot])."
    ),
]
LogTo = Annotated[
    list[str] | None,
    typer.Option(
        "--log-to",
        metavar="TARGET",
        help="Send metrics to tensorboard[:FOLDER] or wandb[:PROJECT]. Can be repeated. See docs/training.md.",
    ),
]
PrecisionOption = Annotated[
    Precision,
    typer.Option("--precision", help="int8 is faster, but its predictions differ slightly from the trainer's."),
]
Language = Annotated[
    str | None,
    typer.Option(metavar="CODE", help="spaCy language code, if the file does not record it. Defaults to en."),
]
FastaiTokenizer = Annotated[
    WordsBy | None,
    typer.Option(
        help="What split the texts of a .pth file: spacy, sentencepiece, or split for fastai's BaseTokenizer. Defaults "
        "to the one whose option is passed: --language or --sentencepiece."
    ),
]

SentencePiece = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="SentencePiece model (spm.model), if the file needs one and does not contain it."
    ),
]


def output_console() -> SafeConsole:
    """Return the console for results: standard output, 160 columns wide unless it is a terminal.

    Labels, columns and paths are printed as they are, including ``[red]`` and ``:smile:``.
    """
    width = None if sys.stdout.isatty() else 160
    return SafeConsole(width=width, markup=False, emoji=False, highlight=False, soft_wrap=True)
