"""Print the tables of docs/hyperparameters.md, made from the code. With ``--write``, update the page.

Run: .venv/bin/python -m tools.make_hyperparameters_table --write
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel
from tools.pages import fill

from bothways.training.hyperparameters import FROM_PACK, SIZES, Hyperparameters, load_hyperparameters

PAGE = Path(__file__).parents[1] / "docs" / "hyperparameters.md"
PART = "made by tools/make_hyperparameters_table.py"
HEAD = "| key | default | description |\n|---|---|---|\n"
FIXED_BY_PACK = {
    "kind",
    "embedding_size",
    "hidden_size",
    "layers",
    "first_window",
    "special_token_placement",
    "vocabulary_size",
}


def tables() -> str:
    """Return the tables: one per section, with one row per key."""
    presets = {name: load_hyperparameters(name) for name in (FROM_PACK, *SIZES)}
    parts = []
    for section, field in Hyperparameters.model_fields.items():
        model = field.annotation
        assert isinstance(model, type)
        assert issubclass(model, BaseModel)
        lines = [f"### [{section}]\n\n{model.__doc__}\n\n{HEAD}"]
        for key in model.model_fields:
            values = {name: shown(getattr(getattr(preset, section), key)) for name, preset in presets.items()}
            description = " ".join(next(d for d in descriptions(model, key) if d).split())  # a row is one line
            lines.append(f"| `{key}` | {default(key, values)} | {description} |\n")
        parts.append("".join(lines))
    return "\n".join(parts)


def default(key: str, values: dict[str, str]) -> str:
    """Return the text of a default: one value if all presets agree, or the value of each preset."""
    if key in FIXED_BY_PACK:
        values = {**values, FROM_PACK: "fixed by the pack"}
    sizes = [values[name] for name in SIZES]
    from_pack = values[FROM_PACK]
    of_sizes = sizes[0] if len(set(sizes)) == 1 else ", ".join(f"{name} {values[name]}" for name in SIZES)
    return of_sizes if {from_pack} == set(sizes) else f"{of_sizes}; with a pack: {from_pack}"


def descriptions(model: type[BaseModel], key: str) -> Iterator[str | None]:
    """Yield the descriptions of a key in a section's class and its base classes."""
    for ancestor in model.__mro__:
        if issubclass(ancestor, BaseModel) and key in ancestor.model_fields:
            yield ancestor.model_fields[key].description


def shown(value: object) -> str:
    """Return a value as Markdown."""
    if isinstance(value, BaseModel):
        return ", ".join(f"`{key}` {inner}" for key, inner in value.model_dump().items())
    return f"{value:,}" if isinstance(value, int) else f"`{value}`" if isinstance(value, str) else str(value)


if __name__ == "__main__":
    if "--write" in sys.argv:
        fill(PAGE, PART, tables())
    else:
        sys.stdout.write(tables())
