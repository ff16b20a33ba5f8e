"""``bothways explain``: the words of a text that decided its prediction."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

import bothways
from bothways import strict_json
from bothways.bundle.parity import ENSEMBLE
from bothways.cli.options import BundlePath, output_console
from bothways.errors import DataError
from bothways.files import STANDARD_STREAM
from bothways.runtime.explanation import MAX_READINGS
from bothways.tasks.labels import label_text

_FOR, _AGAINST = (31, 111, 178), (178, 86, 31)  # blue and orange, which most color-blind people can distinguish
_FAINTEST = 0.08
"""Words that matter less, compared with the strongest one, are not colored."""
_STRONG = 0.6


def explain(
    bundle: BundlePath,
    text: Annotated[
        list[str],
        typer.Argument(metavar="TEXT", help="Text to explain, one per text column. - is standard input."),
    ],
    label: Annotated[
        str | None,
        typer.Option(
            metavar="LABEL",
            help="Label or target to explain. Defaults to the most probable label, or to the first target.",
        ),
    ] = None,
    max_readings: Annotated[
        int,
        typer.Option(min=2, help="Texts to read at most: the text, and the text without each word."),
    ] = MAX_READINGS,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """Show which words decided a prediction.

    Colors the text for each direction, the linear member and the ensemble: blue words speak for the label, orange ones
    against it. Without a terminal, or with NO_COLOR, prints a table of the words.

    A word's number is the probability, or the value, minus that of the text without the word. For the linear member it
    is what the word adds to the log odds of the label, or to the value.

    Words are strings between white space. A text with more words than readings is explained by groups of words.

    Example: bothways explain reviews.bundle "The food was great, but never again."
    """
    texts = [_standard_input() if each == STANDARD_STREAM else each for each in text]
    model = bothways.load(bundle)
    found = model.explain(texts if len(texts) > 1 else texts[0], label=label, max_readings=max_readings)
    console = output_console()
    if as_json:
        console.print(strict_json.dump(found.to_dict()))
        return
    scores = ", ".join(f"{name} {score:.4g}" for name, score in found.scores.items())
    console.print(f"{label_text(found.label)}: {scores}")
    if console.is_terminal and console.color_system is not None and not console.no_color:
        for name in found.methods:
            console.print(f"\n{name}", style="bold" if name == ENSEMBLE else None)
            for column in dict.fromkeys(word.column for word in found.words):
                number = 0 if column is None else model.text_columns.index(column)
                console.print(_colored(found, name, column, texts[number], console.color_system))
    else:
        console.print(_table(found))


def _standard_input() -> str:
    """Return the text of standard input.

    Raises:
        DataError: It is not UTF-8.
    """
    try:
        return sys.stdin.buffer.read().decode("utf-8-sig").removesuffix("\n")
    except UnicodeDecodeError as error:
        raise DataError(f"standard input is not UTF-8 at byte {error.start + 1}. Convert it to UTF-8") from None


def _colored(found: bothways.Explanation, name: str, column: str | None, text: str, colors: str) -> Text:
    """Return a text with its words colored by what they add to the scores of a direction."""
    style_of = _few_colors if colors in ("standard", "windows") else _shade
    strongest = max((abs(word.attributions[name]) for word in found.words), default=0.0)
    colored = Text(text if column is None else f"{column}: {text}")
    shift = len(colored) - len(text)
    for word in found.words:
        share = word.attributions[name] / strongest if strongest else 0.0
        if word.column == column and abs(share) >= _FAINTEST:
            colored.stylize(style_of(share), shift + word.start, shift + word.end)
    return colored


def _few_colors(share: float) -> str:
    """Return the style of a word for a terminal with 16 colors. Only strong words have a background."""
    is_strong = abs(share) > _STRONG
    if share > 0:
        return "white on blue" if is_strong else "blue"
    return "black on yellow" if is_strong else "yellow"


def _shade(share: float) -> str:
    """Return the style of a word, with -1 and 1 for the strongest ones. Weaker ones have a lighter background."""
    full = _FOR if share > 0 else _AGAINST
    shades = [round(255 - abs(share) * (255 - part)) for part in full]
    ink = "white" if abs(share) > _STRONG else "black"
    return f"{ink} on rgb({','.join(map(str, shades))})"


def _table(found: bothways.Explanation) -> Table:
    """Return the words in order, with what each adds to the scores of each direction."""
    table = Table()
    has_columns = any(word.column is not None for word in found.words)
    for title in ["column", "word"] if has_columns else ["word"]:
        table.add_column(title)
    for name in found.methods:
        table.add_column(name, justify="right")
    for word in found.words:
        place = [str(word.column)] if has_columns else []
        numbers = (f"{word.attributions[name]:+.4f}" for name in found.methods)
        table.add_row(*place, " ".join(word.text.split()), *numbers)
    return table
