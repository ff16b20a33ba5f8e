"""Print figures about the structure of src/bothways: python -m tools.structure.

Import circles, upward imports, branches on the task outside tasks/ and the training loss, docstrings that begin with
"Give", and the longest functions.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

SRC = Path(__file__).parents[1] / "src" / "bothways"

LAYERS = [
    {"version", "errors", "arguments", "schema", "strict_json", "toml_file", "terminal", "files", "processes", "pages"},
    {"text"},
    {"tasks"},
    {"data"},
    {"bundle"},
    {"runtime"},
    {"evaluation"},
    {"nn"},
    {"interop", "training", "serve"},
    {"arrow"},
    {"dask", "daft", "mlflow", "ray", "sklearn", "spark"},
    {"cli"},
]
"""Lowest first. A module imports from its own package or from lower layers; only the command line imports them all."""
FLOOR = {name: number for number, names in enumerate(LAYERS) for name in names}

_TASK_NAMES = {"single-label", "multi-label", "regression"}
_TASK_CLASSES = {"SingleLabel", "MultiLabel", "Regression"}
_TASK_ATTRIBUTES = {"is_multi_label", "activation_name", "score_kind"}
_MAY_BRANCH = {"training/objective.py"}


def modules() -> list[Path]:
    """Return all modules of the package but its root."""
    return sorted(
        path for path in SRC.rglob("*.py") if path.parent != SRC or path.name not in {"__init__.py", "__main__.py"}
    )


def module_name(path: Path) -> str:
    """Return the name by which a module is imported."""
    parts = path.relative_to(SRC.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in modules()}


def layer(path: Path) -> str:
    """Return the package, or the module on the ground floor, that a file belongs to."""
    return path.relative_to(SRC).parts[0].removesuffix(".py")


@functools.cache
def imports(path: Path, *, only_top: bool) -> frozenset[str]:
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
    return frozenset(found)


def upward_imports(path: Path) -> set[str]:
    """Return the layers above a module, or beside it, that it imports from."""
    here = layer(path)
    own = {name.split(".")[1] for name in imports(path, only_top=False) if name.startswith("bothways.")} - {here}
    ground = {name for name in own if FLOOR[here] == FLOOR[name] == 0}
    return {name for name in own - ground if FLOOR[name] >= FLOOR[here]}


def import_graph() -> dict[str, set[str]]:
    """Return the modules of this package that each module imports, inside functions and for type checkers included."""
    return {name: set(imports(path, only_top=False) & set(MODULES)) - {name} for name, path in MODULES.items()}


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


def task_branches(path: Path) -> list[int]:
    """Return the lines at which a module outside tasks/ branches on the task.

    A branch is a comparison with a task's name, an ``isinstance`` of a task's class, or a comparison or match of an
    attribute that stands for the task, such as the name of its activation.
    """
    if layer(path) == "tasks" or str(path.relative_to(SRC)) in _MAY_BRANCH:
        return []
    return sorted(
        node.lineno
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Compare | ast.Call | ast.Match) and _is_task_branch(node)
    )


def _is_task_branch(node: ast.Compare | ast.Call | ast.Match) -> bool:
    if isinstance(node, ast.Match):
        return bool(set(_attributes(node.subject)) & _TASK_ATTRIBUTES)
    if isinstance(node, ast.Call):
        is_check = isinstance(node.func, ast.Name) and node.func.id == "isinstance"
        return is_check and any(isinstance(n, ast.Name) and n.id in _TASK_CLASSES for n in ast.walk(node.args[1]))
    constants = {n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
    return bool(constants & _TASK_NAMES or set(_attributes(node)) & _TASK_ATTRIBUTES)


def _attributes(node: ast.AST) -> Iterator[str]:
    return (n.attr for n in ast.walk(node) if isinstance(n, ast.Attribute))


def functions(path: Path) -> Iterator[tuple[int, str, str]]:
    """Yield the number of lines, the place and the docstring of each function, docstrings not counted as lines."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node) or ""
            assert node.end_lineno
            lines = node.end_lineno - node.body[0].lineno + 1
            if docstring:
                first = node.body[1].lineno if len(node.body) > 1 else node.end_lineno + 1
                lines = node.end_lineno - first + 1
            yield lines, f"{path.relative_to(SRC)}:{node.lineno} {node.name}", docstring


def docstrings(path: Path) -> Iterator[str]:
    """Yield the docstrings of a module, its classes and its functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield ast.get_docstring(node) or ""


def main() -> None:
    """Print the figures."""
    paths = modules()
    upward = {str(path.relative_to(SRC)): names for path in paths if (names := upward_imports(path))}
    branches = {str(path.relative_to(SRC)): lines for path in paths if (lines := task_branches(path))}
    give = sum(text.startswith("Give ") for path in paths for text in docstrings(path))
    longest = sorted((entry for path in paths for entry in functions(path)), reverse=True)[:3]
    print(f"modules: {len(paths)}")
    print(f"import circles: {len(cycles(import_graph()))}")
    print(f"upward imports: {len(upward)} {upward or ''}")
    count = sum(map(len, branches.values()))
    print(f"branches on the task outside tasks/ and the training loss: {count} {branches or ''}")
    print(f'docstrings that begin with "Give": {give}')
    for length, place, _ in longest:
        print(f"longest functions, lines of code: {length} {place}")


if __name__ == "__main__":
    main()
