"""D1, D5: messages show foreign text through ``shown`` and ``quoted``, and one function validates foreign data."""

import ast
from pathlib import Path

import pytest
from tools.structure import SRC, modules

_REPRESENTATIONS = {"errors.py", "text/subword_tokenizer.py"}
"""Modules that write an exact representation on purpose: of bounded values, and of floats in a document."""
_OWN_FILES = {"training/plan.py", "training/reports.py", "training/checkpoints.py", "serve/openapi.py"}
"""Modules with schemas of what this program wrote itself."""


def _name(path: Path) -> str:
    return str(path.relative_to(SRC))


def _unbounded(tree: ast.AST) -> list[int]:
    """Return the lines of f-strings with ``!r``, except in a ``__repr__``."""
    inside = {
        id(node)
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef) and function.name == "__repr__"
        for node in ast.walk(function)
    }
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.FormattedValue) and node.conversion == ord("r") and id(node) not in inside
    ]


@pytest.mark.parametrize("path", modules(), ids=_name)
def test_d5_messages_quote_with_a_bound(path: Path) -> None:
    """``quoted`` bounds the length. ``!r`` writes a value of any length, and calls code of the value's class."""
    if _name(path) not in _REPRESENTATIONS:
        assert _unbounded(ast.parse(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize("path", modules(), ids=_name)
def test_d5_only_the_safe_console_prints(path: Path) -> None:
    assert path.name == "terminal.py" or "from rich.console import Console" not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", modules(), ids=_name)
def test_d1_only_the_schema_module_validates(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    if path.name != "schema.py" and _name(path) not in _OWN_FILES:
        assert "model_validate_json" not in source
        assert ".errors()" not in source
        assert "(BaseModel)" not in source


def test_the_check_sees_a_representation() -> None:
    assert _unbounded(ast.parse("f'{a!r}'")) == [1]
    assert _unbounded(ast.parse("def __repr__(self): return f'{a!r}'")) == []
