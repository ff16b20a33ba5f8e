"""The language of the project: no coined words where the field has one, and no reference to what does not exist.

The words and their replacements are those of the style guide. docs/LOG.md and docs/decisions are history and exempt.
"""

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from bothways import errors
from bothways.cli.app import app

ROOT = Path(__file__).parents[2]
SRC = ROOT / "src" / "bothways"
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    *sorted(page for page in (ROOT / "docs").glob("*.md") if page.name != "LOG.md"),
    *sorted(ROOT.glob("*/README.md")),
    *sorted(ROOT.glob("benchmarks/*/README.md")),
]
GUARANTEES = ROOT / "docs" / "guarantees.md"
LONGEST_SUMMARY = 50

BANNED = {
    "measures (for metrics)": r"(?:the|these|those|all|other|of|its|their) measures",
    "told, tell": r"told|tells?",
    "asked": r"asked",
    "said": r"said",
    "so many": r"so many",
    "of no matter": r"of no matter",
    "is none": r"(?:is|are) none",
    "stands": r"stands",
    "goes on": r"go(?:es)? on|gone on|went on",
    "company": r"company",
    "by itself": r"by (?:itself|themselves)",
    "surprise": r"surprise|surprising",
    "half take at most, 99 of 100": r"half take at most|99 of 100",
    "executed for one needed": r"executed for one",
    "cascade": r"cascades?",
    "recipe": r"recipes?",
    "marker": r"markers?",
    "proof, proven": r"proofs?(?!\.jsonl)|prove[ns]?|proved|proving",
    "law": r"laws?",
    "verb": r"verbs?",
    "else (for a default)": r"(?<=, )else|(?<=; )else",
    "a second (for per second)": r"(?:texts|tokens|rows|labels|columns|lines|requests) an? "
    r"(?:second|minute|text|class|label|row|request)",
    "British spelling": r"(?:un)?labell\w+"
    r"|(?:optimi|regulari|standardi|generali|normali|initiali|seriali|quanti)s(?:e[ds]?|ers?|ing|ations?)"
    r"|colours?|neighbours?|behaviours?|licences?",
}
"""By the name in a failure: a regular expression for whole words, in any case."""
PATTERNS = {name: re.compile(rf"\b(?:{words})\b", re.IGNORECASE) for name, words in BANNED.items()}


def banned_words(text: str) -> list[str]:
    """Return the banned words of a text, each with the words around it."""
    line = " ".join(text.split())
    return [
        f"{name}: …{line[max(0, match.start() - 30) : match.end() + 30]}…"
        for name, pattern in PATTERNS.items()
        for match in pattern.finditer(line)
    ]


def test_the_patterns_find_banned_words_and_nothing_else() -> None:
    assert len(banned_words("It tells the company so many markers; else it goes on by itself, as asked.")) == 8
    assert len(banned_words("20 tokens a second, optimised on labelled rows")) == 3
    assert not banned_words("parity.jsonl accompanies optimistic measurements; otherwise retell the analysis")


@functools.cache
def commands() -> dict[str, TyperCommand | TyperGroup]:
    """Return each command by its name, and the whole under an empty name."""
    group = get_command(app)
    assert isinstance(group, TyperGroup)
    found: dict[str, TyperCommand | TyperGroup] = {"": group}
    for name, command in group.commands.items():
        assert isinstance(command, TyperCommand)
        found[name] = command
    return found


@pytest.mark.parametrize("name", sorted(commands())[1:])
def test_the_first_line_of_help_fits_the_list_of_commands(name: str) -> None:
    first, *_ = (commands()[name].help or "").strip().splitlines()
    assert 0 < len(first) <= LONGEST_SUMMARY, first


@pytest.mark.parametrize("name", sorted(commands()))
def test_help_has_no_banned_word(name: str) -> None:
    command = commands()[name]
    texts = [command.help or "", *(getattr(parameter, "help", None) or "" for parameter in command.params)]
    assert [word for text in texts for word in banned_words(text)] == []


def sources() -> list[Path]:
    return sorted(SRC.rglob("*.py"))


def raised_texts(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the line and the literal text of each error that a module raises."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Raise) and node.exc is not None:
            parts = [
                inner.value
                for inner in ast.walk(node.exc)
                if isinstance(inner, ast.Constant) and isinstance(inner.value, str)
            ]
            yield node.lineno, " ".join(parts)


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(SRC)))
def test_errors_have_no_banned_word(path: Path) -> None:
    assert [f"line {line}: {word}" for line, text in raised_texts(path) for word in banned_words(text)] == []


def test_errors_are_found() -> None:
    assert sum(1 for path in sources() for _, text in raised_texts(path) if text) > 100


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_pages_have_no_banned_word(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    without_code = re.sub(r"`[^`\n]+`", "", text)  # names on disk keep their words
    without_targets = re.sub(r"\]\([^)]*\)|<!--.*?-->", "]", without_code)
    assert banned_words(without_targets) == []


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(SRC)))
def test_docstrings_say_return_or_yield_instead_of_give(path: Path) -> None:
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docstrings = [ast.get_docstring(node) or "" for node in ast.walk(tree) if isinstance(node, documented)]
    assert [text for text in docstrings if text.startswith("Give")] == []


def error_classes(parent: type[errors.BothwaysError], depth: int = 0) -> Iterator[tuple[int, str, str]]:
    """Yield depth, name and status of an error class and of those below it, in the order of their definition."""
    status = f"HTTP {parent.status}" if hasattr(parent, "status") else f"exit {parent.exit_code}"
    yield depth, parent.__name__, status
    for child in parent.__subclasses__():
        if child.__module__ == errors.__name__:
            yield from error_classes(child, depth + 1)


def test_the_error_tree_equals_the_classes() -> None:
    drawn = re.findall(r"^    ([│├└─ ]*)(\w+) .* (exit \d|HTTP \d{3})$", errors.__doc__ or "", flags=re.MULTILINE)
    tree = [(len(branch) // 4, name, status) for branch, name, status in drawn]
    assert len(tree) > 20
    assert tree == list(error_classes(errors.BothwaysError))


def guarantee_numbers(text: str) -> set[int]:
    """Return n of each "guarantee n", also in lists such as "guarantees 1, 2 and 6"."""
    found = re.findall(r"guarantees?\s+(\d+(?:(?:,| and|, and|–| to)\s*\d+)*)", text, flags=re.IGNORECASE)
    return {int(number) for numbers in found for number in re.findall(r"\d+", numbers)}


def guarantee_sections() -> dict[int, str]:
    """Return the section of docs/guarantees.md that defines each guarantee."""
    parts = re.split(r"^## (\d+)\. .*$", GUARANTEES.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {int(number): text for number, text in zip(parts[1::2], parts[2::2], strict=True)}


def test_every_guarantee_that_is_named_is_defined() -> None:
    assert guarantee_numbers("Guarantees 1, 2 and 6; guarantee 8") == {1, 2, 6, 8}
    defined = guarantee_sections()
    assert sorted(defined) == list(range(1, 10))
    files = [
        path
        for folder in ("src", "tests", "docs", "tools", "oracle", "benchmarks")
        for path in sorted((ROOT / folder).rglob("*"))
        if path.suffix in {".py", ".md"}
    ]
    named = {path: guarantee_numbers(path.read_text(encoding="utf-8")) for path in [*files, ROOT / "CONTRIBUTING.md"]}
    assert {number for numbers in named.values() for number in numbers} == set(defined)  # none is defined for nothing
    assert {str(path): numbers for path, numbers in named.items() if numbers - set(defined)} == {}


@pytest.mark.parametrize("number", range(1, 9))
def test_each_guarantee_names_tests_that_exist(number: int) -> None:
    tests = re.findall(r"`(tests/[\w/]+\.py)`", guarantee_sections()[number])
    assert tests
    assert [name for name in tests if not (ROOT / name).is_file()] == []
