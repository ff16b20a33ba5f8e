"""Imports point down, form no cycle, and nothing dangerous is imported anywhere."""

import ast
from pathlib import Path

import pytest

SRC = Path(__file__).parents[2] / "src" / "bothways"

LAYERS = [
    {"version", "errors", "strict_json", "files", "processes"},
    {"text"},
    {"tasks"},
    {"data"},
    {"bundle"},
    {"runtime"},
    {"evaluation"},
    {"nn"},
    {"interop", "training", "serve"},
    {"cli"},
]
"""Lowest first. A module imports from its own package or from lower layers; only the command line imports them all."""
FLOOR = {name: number for number, names in enumerate(LAYERS) for name in names}
TRAINING_TIER = {"torch", "sentencepiece", "sklearn", "pyarrow"}
MAY_IMPORT_AT_TOP = {"nn": {"torch"}, "training": {"torch"}}
MAY_IMPORT_WITHIN = {"interop/spacy_tables.py": {"spacy"}}
"""Allowed inside a function only: the rules of the installed spaCy are read during an import, never at run time."""
NEVER = {"pickle", "cPickle", "dill", "joblib", "cloudpickle", "marshal", "shelve", "spacy", "fastai"}


def modules() -> list[Path]:
    return sorted(
        path for path in SRC.rglob("*.py") if path.parent != SRC or path.name not in {"__init__.py", "__main__.py"}
    )


def module_name(path: Path) -> str:
    parts = path.relative_to(SRC.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in modules()}


def imports(path: Path, *, only_top: bool) -> set[str]:
    """Return the names of all imported modules; ``from package import module`` counts as ``package.module``."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    nodes = tree.body if only_top else list(ast.walk(tree))
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name} has a relative import"
            assert node.module
            submodules = {f"{node.module}.{alias.name}" for alias in node.names} & set(MODULES)
            found |= submodules
            if len(submodules) < len(node.names):  # a name that is not a module is defined in the module itself
                found.add(node.module)
    return found


def layer(path: Path) -> str:
    return path.relative_to(SRC).parts[0].removesuffix(".py")


def test_every_module_has_a_layer() -> None:
    assert len(modules()) > 30  # the rules below must have something to check
    assert {layer(path) for path in modules()} == set(FLOOR)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(SRC)))
def test_imports_point_down(path: Path) -> None:
    own = {name.split(".")[1] for name in imports(path, only_top=False) if name.startswith("bothways.")}
    here = layer(path)
    above = {name for name in own if FLOOR[name] > FLOOR[here]}
    assert not above, f"{here} is below {above}"
    neighbors = {name for name in own - {here} if FLOOR[name] == FLOOR[here]}
    assert FLOOR[here] == 0 or not neighbors, f"{here} and {neighbors} are on the same floor"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(SRC)))
def test_only_the_command_line_imports_the_package_root(path: Path) -> None:
    """The root imports everything above it, so a module that imports the root imports upward."""
    assert layer(path) == "cli" or "bothways" not in imports(path, only_top=False)


def import_graph() -> dict[str, set[str]]:
    """Return the modules of this package that each module imports, inside functions and for type checkers included."""
    return {name: (imports(path, only_top=False) & set(MODULES)) - {name} for name, path in MODULES.items()}


def cycles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Return the strongly connected components of more than one module."""
    reachable: dict[str, set[str]] = {}
    for start in graph:
        seen: set[str] = set()
        waiting = [start]
        while waiting:
            new = graph[waiting.pop()] - seen
            seen |= new
            waiting += new
        reachable[start] = seen
    components = {
        tuple(sorted(name for name in reachable[start] if start in reachable[name]))
        for start in graph
        if start in reachable[start]
    }
    return sorted(map(list, components))


def test_imports_have_no_cycle() -> None:
    graph = import_graph()
    assert "bothways.text.reading" in graph["bothways.bundle.manifest"]
    assert cycles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == [["b", "c"]]
    assert cycles(graph) == []


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(SRC)))
def test_only_the_training_tier_imports_its_libraries(path: Path) -> None:
    found = {name.split(".")[0] for name in imports(path, only_top=True)}
    if path.name != "api.py":  # bothways.train, which the package root imports without torch
        found -= MAY_IMPORT_AT_TOP.get(layer(path), set())
    assert not found & TRAINING_TIER


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(SRC)))
def test_nothing_that_executes_what_it_reads_is_imported(path: Path) -> None:
    allowed = MAY_IMPORT_WITHIN.get(str(path.relative_to(SRC)), set())
    assert not {name.split(".")[0] for name in imports(path, only_top=False)} & (NEVER - allowed)
    assert not {name.split(".")[0] for name in imports(path, only_top=True)} & NEVER


def test_only_one_module_reverses_anything() -> None:
    reversing = {
        str(path.relative_to(SRC))
        for path in modules()
        if "[::-1]" in path.read_text(encoding="utf-8") or ".flip(" in path.read_text(encoding="utf-8")
    }
    assert reversing == {"text/reading.py"}
