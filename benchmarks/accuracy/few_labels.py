"""Tables of the comparison with few labels: errors by labels per class, and the cost of each method.

Input: results by set and method. Output: Markdown tables, for report.py.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence

from benchmarks.accuracy.ours import DIRECTIONS, TEACHER
from benchmarks.accuracy.outcomes import BASELINES, ENSEMBLE, SINGLE, Result, describe_machine, mean_and_deviation
from benchmarks.accuracy.sets import FEW_LABEL_SETS, LABELS_PER_CLASS, WITH_FEW_LABELS, few_labels_name

from bothways.bundle.manifest import LINEAR

Groups = Mapping[tuple[str, str], list[Result]]
"""Results by set and method, one per seed."""

COLUMNS: Mapping[str, Sequence[tuple[str, str]]] = {
    "TF-IDF": [("tfidf", SINGLE)],
    "USE-m3": [("use-m3", SINGLE)],
    "MiniLM": [("minilm", SINGLE)],
    "directions only": [("bothways-linear", DIRECTIONS), ("bothways", ENSEMBLE)],
    "linear": [("bothways-linear", LINEAR)],
    "ensemble": [("bothways-linear", ENSEMBLE)],
    "directions only, no pack": [("bothways-linear-scratch", DIRECTIONS), ("bothways-scratch", ENSEMBLE)],
    "linear, no pack": [("bothways-linear-scratch", LINEAR)],
    "ensemble, no pack": [("bothways-linear-scratch", ENSEMBLE)],
}
"""Columns of the table of errors: the method and the model, and another that replaces it where it was not measured."""
UNLABELED_COLUMNS: Mapping[str, tuple[str, str]] = {
    "directions, unlabeled": ("bothways-linear", DIRECTIONS),
    "ensemble, unlabeled": ("bothways-linear", ENSEMBLE),
    "teacher": ("bothways-teacher", TEACHER),
    "directions, taught": ("bothways-teacher", DIRECTIONS),
    "ensemble, taught": ("bothways-teacher", ENSEMBLE),
}
"""Columns of the table of teachers: the method and the model, on the set with unlabeled texts."""
_COST_METHODS = {
    "tfidf": "TF-IDF + logistic regression",
    "use-m3": "USE multilingual 3 + logistic regression",
    "minilm": "MiniLM-L6 int8 + logistic regression",
    "bothways-linear": "bothways, directions and linear member",
    "bothways-linear-scratch": "bothways, directions and linear member, no pack",
}


def error_table(groups: Groups) -> str:
    """Return a Markdown table with one row per set and number of labels per class, and one column per model."""
    lines = [
        f"| set | labels per class | labeled rows | {' | '.join(COLUMNS)} |",
        f"|---|--:|--:|{'--:|' * len(COLUMNS)}",
    ]
    for source, per_class, name in _rows():
        cells = [_cell(groups, name, column) for column in COLUMNS.values()]
        known = [groups[name, method][0] for method in _methods() if (name, method) in groups]
        if not any(cells):
            continue
        title = source + (" (macro-F1)" if known[0]["measure"] == "macro_f1" else "")
        lines.append(f"| {title} | {per_class} | {_labeled_rows(known[0]):,} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def teacher_table(groups: Groups) -> str:
    """Return a Markdown table of what unlabeled texts and a teacher are worth, with one row per set that has them."""
    alone = {name: COLUMNS[name] for name in ("directions only", "ensemble")}
    columns = [*alone, *UNLABELED_COLUMNS]
    lines = [f"| set | labels per class | {' | '.join(columns)} |", f"|---|--:|{'--:|' * len(columns)}"]
    for source in WITH_FEW_LABELS:
        for count in LABELS_PER_CLASS:
            name = few_labels_name(source, count, has_unlabeled=True)
            found = [_cell(groups, name, [column]) for column in UNLABELED_COLUMNS.values()]
            if any(found):
                without = [_cell(groups, few_labels_name(source, count), column) for column in alone.values()]
                lines.append(f"| {source} | {count} | {' | '.join([*without, *found])} |")
    return "\n".join(lines) + "\n"


def cost_table(results: Iterable[Result]) -> str:
    """Return a Markdown table of sizes and of texts per CPU second with few labels, one row per method and machine."""
    by_method: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        if result["set"] in FEW_LABEL_SETS and result["method"] in _COST_METHODS:
            by_method.setdefault((describe_machine(result["machine"]), result["method"]), []).append(result)
    sets = [
        source
        for source in WITH_FEW_LABELS
        if any(_of_source(result, source) for found in by_method.values() for result in found)
    ]
    lines = [f"| method | machine | MB | {' | '.join(sets)} |", f"|---|---|--:|{'--:|' * len(sets)}"]
    order = list(_COST_METHODS)
    for machine, method in sorted(by_method, key=lambda key: (key[0], order.index(key[1]))):
        found = by_method[machine, method]
        speeds = [_speed([result for result in found if _of_source(result, source)]) for source in sets]
        lines.append(f"| {_COST_METHODS[method]} | {machine} | {_megabytes(found)} | {' | '.join(speeds)} |")
    return "\n".join(lines) + "\n"


def _rows() -> Iterator[tuple[str, str, str]]:
    """Yield the rows of the table of errors: the data set, the labels per class, and the name of that set."""
    for source in WITH_FEW_LABELS:
        for count in LABELS_PER_CLASS:
            yield source, str(count), few_labels_name(source, count)
        yield source, "all", source


def _methods() -> list[str]:
    return list(dict.fromkeys(method for column in COLUMNS.values() for method, _ in column))


def _cell(groups: Groups, name: str, column: Sequence[tuple[str, str]]) -> str:
    """Return mean, standard deviation and number of seeds, or an empty string."""
    for method, model in column:
        found = [result for result in groups.get((name, method), []) if model in result["scores"]]
        if found:
            measure = found[0]["measure"]
            values = [100 * result["scores"][model][measure] for result in found]
            return f"{mean_and_deviation(values, 1)} ({len(values)})"
    return ""


def _labeled_rows(result: Result) -> int:
    rows: Mapping[str, int] = result["rows"]
    return rows["training"] + (rows["validation"] if result["method"] not in BASELINES else 0)


def _of_source(result: Result, source: str) -> bool:
    return result["set"] in {few_labels_name(source, count) for count in LABELS_PER_CLASS}


def _speed(results: Sequence[Result]) -> str:
    if not results:
        return ""
    return (
        f"{statistics.median(result['rows']['test'] / result['times']['predict']['cpu_s'] for result in results):,.0f}"
    )


def _megabytes(results: Sequence[Result]) -> str:
    """Return the size, or the smallest and the largest one."""
    values = [result["facts"]["megabytes"] for result in results]
    sizes = [f"{value:.0f}" if value >= 10 else f"{value:.2g}" for value in values]
    smallest, largest = min(sizes, key=float), max(sizes, key=float)
    return smallest if smallest == largest else f"{smallest} to {largest}"
