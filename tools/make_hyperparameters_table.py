"""Print the table of docs/recipe.md from the code that acts; ``--write`` puts it there.

Run: .venv/bin/python -m docs.make_recipe_table --write
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel
from tools.pages import fill

from bothways.training.hyperparameters import FROM_PACK, SIZES, Hyperparameters, load_hyperparameters

PAGE = Path(__file__).with_name("recipe.md")
HEAD = "| section | key | from a pack | tiny | small | base | what it is |\n|---|---|---|---|---|---|---|\n"
DECIDED_BY_PACK = {"width_embedding", "width_hidden", "layers", "markers", "vocabulary_size"}
PART = "made by docs/make_recipe_table.py"


def table() -> str:
    """Return the table: one row a key, with the value of each preset."""
    presets = [load_hyperparameters(preset) for preset in (FROM_PACK, *SIZES)]
    lines = []
    for section, field in Hyperparameters.model_fields.items():
        model = field.annotation
        assert isinstance(model, type)
        assert issubclass(model, BaseModel)
        for key in model.model_fields:
            values = [shown(getattr(getattr(preset, section), key)) for preset in presets]
            if key in DECIDED_BY_PACK:
                values[0] = "the pack's"
            meaning = " ".join(next(d for d in descriptions(model, key) if d).split())  # a row is one line
            lines.append(f"| {section} | {key} | {' | '.join(values)} | {meaning} |\n")
    return HEAD + "".join(lines)


def descriptions(model: type[BaseModel], key: str) -> Iterator[str | None]:
    """Return what a section and those it extends say of a key."""
    for ancestor in model.__mro__:
        if issubclass(ancestor, BaseModel) and key in ancestor.model_fields:
            yield ancestor.model_fields[key].description


def shown(value: object) -> str:
    """Return a value as it would stand in TOML."""
    if isinstance(value, BaseModel):
        return ", ".join(f"{key} {inner}" for key, inner in value.model_dump().items())
    return str(value)


if __name__ == "__main__":
    if "--write" in sys.argv:
        fill(PAGE, PART, table())
    else:
        sys.stdout.write(table())
