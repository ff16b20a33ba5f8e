"""Imports point down, form no cycle, and nothing dangerous is imported anywhere."""

from pathlib import Path

import pytest
from tools.structure import FLOOR, SRC, cycles, import_graph, imports, layer, modules, task_branches, upward_imports

TRAINING_TIER = {"torch", "sentencepiece", "sklearn", "pyarrow"}
MAY_IMPORT_AT_TOP = {"nn": {"torch"}, "training": {"torch"}}
MAY_IMPORT_WITHIN = {"interop/spacy_tables.py": {"spacy"}}
"""Allowed inside a function only: the rules of the installed spaCy are read during an import, never at run time."""
NEVER = {"pickle", "cPickle", "dill", "joblib", "cloudpickle", "marshal", "shelve", "spacy", "fastai"}


def test_every_module_has_a_layer() -> None:
    assert len(modules()) > 30  # the rules below must have something to check
    assert {layer(path) for path in modules()} == set(FLOOR)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(SRC)))
def test_imports_point_down(path: Path) -> None:
    assert upward_imports(path) == set()


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(SRC)))
def test_only_the_command_line_imports_the_package_root(path: Path) -> None:
    """The root imports everything above it, so a module that imports the root imports upward."""
    assert layer(path) == "cli" or "bothways" not in imports(path, only_top=False)


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


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(SRC)))
def test_libraries_that_draw_or_send_metrics_are_imported_on_request(path: Path) -> None:
    assert not set(imports(path, only_top=True)) & {"torch.utils.tensorboard"}
    assert not {name.split(".")[0] for name in imports(path, only_top=True)} & {"matplotlib", "tensorboard", "wandb"}


def test_only_one_module_reverses_anything() -> None:
    reversing = {
        str(path.relative_to(SRC))
        for path in modules()
        if "[::-1]" in path.read_text(encoding="utf-8") or ".flip(" in path.read_text(encoding="utf-8")
    }
    assert reversing == {"text/reading.py"}


def test_nothing_but_tasks_and_the_loss_branches_on_the_task() -> None:
    """The ONNX export is the exception: a graph needs the operator of the activation."""
    found = {str(path.relative_to(SRC)) for path in modules() if task_branches(path)}
    assert found <= {"interop/onnx_export.py"}
