"""Write the tables of docs/benchmarks.md and the plots next to it.

Input: the content of result files. Output: the tables in docs/benchmarks.md, ``benchmarks-errors.svg`` (all sets) and
``benchmarks-labels.svg`` (IMDb by number of labels).
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.accuracy import few_labels
from benchmarks.accuracy.ours import DIRECTIONS
from benchmarks.accuracy.outcomes import BASELINES, ENSEMBLE, SINGLE, Result, describe_machine, mean_and_deviation
from benchmarks.accuracy.sets import FEW_LABEL_SETS, OTHER_TEXTS, SETS
from tools.pages import fill

from bothways.bundle.manifest import LINEAR

MODELS = {
    "forward": "forward",
    "backward": "backward",
    LINEAR: "linear",
    DIRECTIONS: "directions only",
    ENSEMBLE: "ensemble",
}
"""Models of a method, and their columns. A column without results is left out."""
METHODS = {
    "tfidf": "TF-IDF + logistic regression",
    "fasttext": "fastText",
    "use-m3": "USE multilingual 3 + logistic regression",
    "minilm": "MiniLM-L6 int8 + logistic regression",
    "fastai": "fastai 2, same pack and epochs",
    "bothways-scratch": "bothways without a pack",
    "bothways-qrnn-scratch": "bothways, QRNN without a pack",
    "bothways": "bothways",
    "bothways-linear": "bothways with a linear member",
    "bothways-linear-scratch": "bothways with a linear member, without a pack",
    "bothways-teacher": "bothways with a linear member and USE multilingual 3 as its teacher",
    "bothways-qrnn": "bothways, QRNN",
    "bothways-base": "bothways, en-base",
}
_LABELED_ROWS = {"imdb-100": 100, "imdb-500": 500, "imdb-2000": 2000, "imdb": 25_000}
_TABLE_NOTE = """Test error in %, or macro-F1 where noted: mean ± standard deviation over seeds. Training time is in
minutes and includes the choice of settings. The time for language models that several sets share follows a +.
Throughput (texts/s) is from text to label, all models of the row together. CPU minutes and texts per CPU second are in
parentheses: they hardly depend on what else ran. Compare times only on the same machine, given by its letter. Errors
are comparable between machines. The plots show the machine with the most seeds.
"""
_FEW_LABELS_NOTE = """Test error in %, or macro-F1 where noted: mean ± standard deviation over seeds (number of seeds).
Each seed draws other rows. All methods get the same rows and no unlabeled texts. bothways and the baselines choose
their settings on these rows only. The columns from "directions only" on are bothways from `en-small`, and those with
"no pack" are trained from scratch: the two directions without the linear member, the linear member alone, and their
ensemble. A run that left the linear member out counts as directions only in the ensemble.
"""
_TEACHER_NOTE = f"""The same with at most {OTHER_TEXTS} other training texts, whose labels nothing uses. "Unlabeled":
the language models read them. "Taught": USE-m3 with logistic regression, fitted on the training rows, labels them, and
bothways trains on these probabilities too. "Teacher" is that model alone. It has fewer rows than in the table above,
since the validation rows of bothways are hidden from it.
"""
_COST_NOTE = """Size of the model files, encoder included, and texts per CPU second from text to label, by the set
of the texts (median over seeds).
"""


def write_report(results: Sequence[Result], page: Path) -> None:
    """Update the tables of the page, and write the plots next to it."""
    machines = by_machine(results)
    letters = dict(zip(machines, "ABCDEFGH", strict=False))
    named = "\n".join(f"- **{letter}**: {machine}" for machine, letter in letters.items())
    fill(page, "errors", "\n".join([_TABLE_NOTE, table(machines, letters), named, ""]))
    compared = {machine: training_speed(groups) for machine, groups in machines.items()}
    fill(
        page,
        "training beside fastai",
        "\n".join(_headed(machine, lines) for machine, lines in compared.items() if lines),
    )
    fill(page, "conditions", conditions(results))
    most = with_most_seeds(machines)
    tables = [
        _FEW_LABELS_NOTE,
        few_labels.error_table(most),
        _TEACHER_NOTE,
        few_labels.teacher_table(most),
        _COST_NOTE,
        few_labels.cost_table(results),
    ]
    fill(page, "few labels", "\n".join(tables))
    plot_files = [*plot_errors(most, page), *plot_labels(most, page)]
    print(json.dumps({"results": len(results), "written": [page.name, *plot_files]}))


Groups = dict[tuple[str, str], list[Result]]
"""Results by set and method, one per seed."""


def by_machine(results: Iterable[Result]) -> dict[str, Groups]:
    """Return the results by machine, the machine with the most results first."""
    found: dict[str, list[Result]] = {}
    for result in results:
        found.setdefault(describe_machine(result["machine"]), []).append(result)
    return {machine: grouped(found[machine]) for machine in sorted(found, key=lambda machine: -len(found[machine]))}


def grouped(results: Iterable[Result]) -> Groups:
    """Return results by set and method, in the order of the table."""
    found: Groups = {}
    for result in results:
        found.setdefault((result["set"], result["method"]), []).append(result)
    sets, methods = list(SETS), list(METHODS)
    return {key: found[key] for key in sorted(found, key=lambda key: (sets.index(key[0]), methods.index(key[1])))}


def with_most_seeds(machines: Mapping[str, Groups]) -> Groups:
    """Return results by set and method, each from the machine with the most seeds."""
    found: Groups = {}
    for groups in machines.values():
        for key, results in groups.items():
            if len(results) > len(found.get(key, [])):
                found[key] = results
    return found


def table(machines: Mapping[str, Groups], letters: Mapping[str, str]) -> str:
    """Return a Markdown table with one row per set, method and machine. Few-label sets have a table of their own."""
    sets, methods = list(SETS), list(METHODS)
    rows_shown = [
        (*key, letters[machine], results)
        for machine, groups in machines.items()
        for key, results in groups.items()
        if key[0] not in FEW_LABEL_SETS
    ]
    rows_shown.sort(key=lambda row: (sets.index(row[0]), methods.index(row[1]), row[2]))
    known = {model for row in rows_shown for model in row[3][0]["scores"]}
    models = [model for model in MODELS if model in known or model == ENSEMBLE]
    columns = ["set", "labeled rows", "method", "machine", "seeds", *(MODELS[model] for model in models)]
    lines = [
        f"| {' | '.join(columns)} | training, min | texts/s |",
        f"|---|--:|---|---|{'--:|' * (len(models) + 3)}",
    ]
    for set_name, method, letter, results in rows_shown:
        first = results[0]
        is_f1 = first["measure"] == "macro_f1"
        scores = [_mean_score(results, model, is_f1) for model in models]
        if SINGLE in first["scores"]:
            scores[-1] = _mean_score(results, SINGLE, is_f1)
        rows = first["rows"]["training"] + (first["rows"]["validation"] if method not in BASELINES else 0)
        cells = [
            set_name + (" (macro-F1)" if is_f1 else ""),
            f"{rows:,}",
            METHODS[method],
            letter,
            str(len(results)),
            *scores[:-1],
            f"**{scores[-1]}**" if method in ("bothways", "bothways-base") else scores[-1],
            _minutes(results),
            _speed(results),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def training_speed(groups: Groups) -> str:
    """Return a Markdown table that compares training times with fastai per stage, or an empty string."""
    lines = []
    for set_name in SETS:
        both = [groups.get((set_name, method), []) for method in ("bothways", "fastai")]
        seconds = [[result["facts"]["seconds"] for result in results] for results in both]
        if not all(seconds):
            continue
        for stage in ("language model", "classifier"):
            ours, theirs = (statistics.mean(found[stage] for found in of_method) for of_method in seconds)
            lines.append(f"| {set_name} | {stage}, epochs only | {ours:.0f} | {theirs:.0f} | {theirs / ours:.1f} |")
        ours, theirs = (
            statistics.mean(
                sum(result["times"][w]["wall_s"] for w in ("train", "shared") if w in result["times"])
                - result["facts"]["seconds"].get(
                    "other rates", 0.0
                )  # the search for a learning rate is not counted for fastai
                for result in results
            )
            for results in both
        )
        lines.append(f"| {set_name} | texts to models on disk | {ours:.0f} | {theirs:.0f} | {theirs / ours:.1f} |")
    if not lines:
        return ""
    head = ["| set | seconds | bothways | fastai | speedup |", "|---|---|--:|--:|--:|"]
    return "\n".join([*head, *lines, ""])


def conditions(results: Sequence[Result]) -> str:
    """Return a description of the test rows, machines, versions and commands of the results."""
    lines = ["**Test rows**", ""]
    tests = {result["set"]: f"{result['rows']['test']:,} rows, {result['test_split']}" for result in results}
    named: dict[str, list[str]] = {}
    for name in SETS:
        if name in tests:
            named.setdefault(tests[name], []).append(name)
    lines += [f"- {', '.join(names)}: {test}" for test, names in named.items()]
    lines += ["", "**Machines and versions**", ""]
    for method, method_name in METHODS.items():
        mine = [result for result in results if result["method"] == method]
        for line in sorted({_setting(result) for result in mine}):
            loads = [result["machine"]["load_before"] for result in mine if _setting(result) == line]
            busy = f"load average before the run {min(loads)} to {max(loads)}"
            lines.append(f"- {method_name}: {line}; {busy} ({len(loads)} results)")
    lines += ["", "The file of each result contains the command that measures it.", ""]
    return "\n".join(lines)


def plot_errors(groups: Groups, page: Path) -> list[str]:
    """Draw the error of each method on each set, and return the names of the files."""
    errors = {
        key: results
        for key, results in groups.items()
        if results[0]["measure"] == "error" and key[0] not in FEW_LABEL_SETS
    }
    if not errors:
        return []
    pyplot = plots()
    sets = [name for name in SETS if any(key[0] == name for key in errors)]
    methods = [name for name in METHODS if any(key[1] == name for key in errors)]
    figure, axes = pyplot.subplots(figsize=(max(6, 1.6 * len(sets)), 4), layout="constrained")
    width = 0.8 / len(methods)
    for position, method in enumerate(methods):
        places = [place for place, name in enumerate(sets) if (name, method) in errors]
        values = [[100 * value for value in best_values(errors[sets[place], method])] for place in places]
        axes.bar(
            [place + (position - (len(methods) - 1) / 2) * width for place in places],
            [statistics.mean(value) for value in values],
            width,
            yerr=[_spread(value) for value in values],
            capsize=2,
            color=_color(method),
            label=METHODS[method],
        )
    axes.set_xticks(range(len(sets)), sets)
    axes.set_ylabel("test error, %")
    axes.set_ylim(bottom=0)
    _add_legend(figure)
    return _saved(pyplot, figure, page, "errors")


def plot_labels(groups: Groups, page: Path) -> list[str]:
    """Draw the error on IMDb by number of labels, and return the names of the files."""
    methods = [name for name in METHODS if sum((known, name) in groups for known in _LABELED_ROWS) > 1]
    if not methods:
        return []
    pyplot = plots()
    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    for method in methods:
        known = [name for name in _LABELED_ROWS if (name, method) in groups]
        values = [[100 * value for value in best_values(groups[name, method])] for name in known]
        axes.errorbar(
            [_LABELED_ROWS[name] for name in known],
            [statistics.mean(value) for value in values],
            yerr=[_spread(value) for value in values],
            marker="o",
            capsize=3,
            color=_color(method),
            label=METHODS[method],
        )
    axes.set_xscale("log")
    ticks = [count for name, count in _LABELED_ROWS.items() if any((name, method) in groups for method in methods)]
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("labeled reviews (IMDb)")
    axes.set_ylabel("test error, %")
    axes.set_ylim(bottom=0)
    _add_legend(figure)
    return _saved(pyplot, figure, page, "labels")


def best_values(results: Sequence[Result]) -> list[float]:
    """Return the value of a method per seed: of its ensemble, or of its only model."""
    return [
        result["scores"][ENSEMBLE if ENSEMBLE in result["scores"] else SINGLE][result["measure"]] for result in results
    ]


def _mean_score(results: Sequence[Result], model: str, is_f1: bool) -> str:
    values = [100 * found[model][results[0]["measure"]] for result in results if model in (found := result["scores"])]
    if not values:
        return ""
    return mean_and_deviation(values, 1 if is_f1 else 2)


def _spread(values: Sequence[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0


def _minutes(results: Sequence[Result]) -> str:
    def formatted(clock: str) -> str:
        own, shared = (
            [result["times"][what][clock] / 60 for result in results if what in result["times"]]
            for what in ("train", "shared")
        )
        mean = statistics.mean(own)
        minutes = f"{mean:.1f}" if mean >= 0.95 else f"{mean:.2f}"
        return f"{minutes} + {statistics.mean(shared):.1f}" if shared else minutes

    is_short = any(
        result["facts"].get("was_resumed") for result in results
    )  # the time before the interruption is not counted
    return f"{'> ' * is_short}{formatted('wall_s')} ({formatted('cpu_s')})"


def _speed(results: Sequence[Result]) -> str:
    def formatted(clock: str) -> str:
        speeds = [result["rows"]["test"] / result["times"]["predict"][clock] for result in results]
        return f"{statistics.mean(speeds):,.0f}"

    return f"{formatted('wall_s')} ({formatted('cpu_s')})"


def _setting(result: Result) -> str:
    packages = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    return f"{describe_machine(result['machine'])}; {packages}"


def _headed(machine: str, lines: str) -> str:
    return f"**{machine}**\n\n{lines}"


def plots() -> Any:
    """Return pyplot, configured for reproducible files without a display."""
    import matplotlib as mpl  # noqa: PLC0415  (only where plots are made)

    mpl.use("agg")
    mpl.rcParams["svg.hashsalt"] = "bothways"
    mpl.rcParams["axes.spines.top"] = mpl.rcParams["axes.spines.right"] = False
    from matplotlib import pyplot  # noqa: PLC0415

    return pyplot


def _color(method: str) -> str:
    """Return the color of a method, the same in every plot."""
    color: str = plots().get_cmap("tab20").colors[list(METHODS).index(method)]
    return color


def _add_legend(figure: Any) -> None:
    figure.legend(frameon=False, loc="outside upper center", ncols=3)


def _saved(pyplot: Any, figure: Any, page: Path, name: str) -> list[str]:
    file = page.with_name(f"{page.stem}-{name}.svg")
    figure.savefig(file, metadata={"Date": None})
    pyplot.close(figure)
    return [file.name]
