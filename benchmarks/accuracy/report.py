"""Put the tables of results into their page, and draw the plots beside it.

In: results as their files hold them. Out: the tables in docs/benchmarks.md, ``benchmarks-errors.svg`` (every set) and
``benchmarks-labels.svg`` (IMDb by the number of labels).
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.accuracy.outcomes import ENSEMBLE, SINGLE, Result, machine_told
from benchmarks.accuracy.sets import SETS
from tools.pages import fill

MODELS = ("forward", "backward", ENSEMBLE)
METHODS = {
    "tfidf": "TF-IDF + logistic regression",
    "fasttext": "fastText",
    "fastai": "fastai 2, same pack and epochs",
    "bothways-scratch": "bothways without a pack",
    "bothways": "bothways",
    "bothways-base": "bothways, en-base",
}
_LABELLED_SETS = {"imdb-100": 100, "imdb-500": 500, "imdb-2000": 2000, "imdb": 25_000}
_TABLE_NOTE = """Test error in %, or macro-F1 where said: mean ± standard deviation over seeds. Training in minutes,
choosing settings included (what several sets share stands behind a +); texts/s from text to label, all models of the
row together. In brackets CPU minutes, and texts per CPU second: they hardly depend on what else ran. Times of two
machines don't compare: a letter tells on which one a row was measured. Errors do; the plots show what has most seeds.
"""


def write_report(results: Sequence[Result], page: Path) -> None:
    """Write everything that these results allow into a page that has the marks for it, and plots beside it."""
    machines = by_machine(results)
    letters = dict(zip(machines, "ABCDEFGH", strict=False))
    named = "\n".join(f"- **{letter}**: {told}" for told, letter in letters.items())
    fill(page, "errors", "\n".join([_TABLE_NOTE, table(machines, letters), named, ""]))
    compared = {told: training_speed(groups) for told, groups in machines.items()}
    fill(page, "training beside fastai", "\n".join(_headed(told, lines) for told, lines in compared.items() if lines))
    fill(page, "conditions", conditions(results))
    most = with_most_seeds(machines)
    plots_made = [*plot_errors(most, page), *plot_labels(most, page)]
    print(json.dumps({"results": len(results), "written": [page.name, *plots_made]}))


Groups = dict[tuple[str, str], list[Result]]
"""The results of each set and method, one a seed."""


def by_machine(results: Iterable[Result]) -> dict[str, Groups]:
    """Return the results of each machine, most results first."""
    found: dict[str, list[Result]] = {}
    for result in results:
        found.setdefault(machine_told(result["machine"]), []).append(result)
    return {told: grouped(found[told]) for told in sorted(found, key=lambda told: -len(found[told]))}


def grouped(results: Iterable[Result]) -> Groups:
    """Return the results of each set and method, one a seed, in the order of the table."""
    found: Groups = {}
    for result in results:
        found.setdefault((result["set"], result["method"]), []).append(result)
    sets, methods = list(SETS), list(METHODS)
    return {key: found[key] for key in sorted(found, key=lambda key: (sets.index(key[0]), methods.index(key[1])))}


def with_most_seeds(machines: Mapping[str, Groups]) -> Groups:
    """Return the results of each set and method from the machine that has the most of them."""
    found: Groups = {}
    for groups in machines.values():
        for key, results in groups.items():
            if len(results) > len(found.get(key, [])):
                found[key] = results
    return found


def table(machines: Mapping[str, Groups], letters: Mapping[str, str]) -> str:
    """Return a Markdown table, a row a set, method and machine."""
    lines = [
        "| set | labeled rows | method | on | seeds | forward | backward | ensemble | training, min | texts/s |",
        "|---|--:|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    sets, methods = list(SETS), list(METHODS)
    rows_told = [(*key, letters[told], results) for told, groups in machines.items() for key, results in groups.items()]
    rows_told.sort(key=lambda row: (sets.index(row[0]), methods.index(row[1]), row[2]))
    for set_name, method, letter, results in rows_told:
        first = results[0]
        is_f1 = first["measure"] == "macro_f1"
        told = [_told(results, model, is_f1) for model in MODELS]
        if SINGLE in first["scores"]:
            told[-1] = _told(results, SINGLE, is_f1)
        rows = first["rows"]["training"] + (first["rows"]["validation"] if first["method"] not in _BASELINES else 0)
        cells = [
            set_name + (" (macro-F1)" if is_f1 else ""),
            f"{rows:,}",
            METHODS[method],
            letter,
            str(len(results)),
            *told[:-1],
            f"**{told[-1]}**" if method in ("bothways", "bothways-base") else told[-1],
            _minutes(results),
            _speed(results),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def training_speed(groups: Groups) -> str:
    """Return a Markdown table of how long training took beside fastai, stage by stage, or nothing."""
    lines = []
    for set_name in SETS:
        both = [groups.get((set_name, method), []) for method in ("bothways", "fastai")]
        seconds = [[result["facts"]["seconds"] for result in results] for results in both]
        if not all(seconds):
            continue
        for stage in ("language model", "classifier"):
            ours, theirs = (statistics.mean(found[stage] for found in of_method) for of_method in seconds)
            lines.append(f"| {set_name} | {stage}, epochs alone | {ours:.0f} | {theirs:.0f} | {theirs / ours:.1f} |")
        ours, theirs = (
            statistics.mean(
                sum(result["times"][w]["wall_s"] for w in ("train", "shared") if w in result["times"])
                - result["facts"]["seconds"].get("other rates", 0.0)  # fastai is not charged with choosing one
                for result in results
            )
            for results in both
        )
        lines.append(f"| {set_name} | texts to models on disk | {ours:.0f} | {theirs:.0f} | {theirs / ours:.1f} |")
    if not lines:
        return ""
    head = ["| set | seconds of | bothways | fastai | times faster |", "|---|---|--:|--:|--:|"]
    return "\n".join([*head, *lines, ""])


_BASELINES = ("tfidf", "fasttext")
"""Fitted on the validation rows as well, once settings are chosen."""


def conditions(results: Sequence[Result]) -> str:
    """Say on which rows, on what machine, with which versions and by what commands it was measured."""
    lines = ["**Test rows**", ""]
    tests = {result["set"]: f"{result['rows']['test']:,} rows, {result['test_split']}" for result in results}
    lines += [f"- {name}: {tests[name]}" for name in SETS if name in tests]
    lines += ["", "**Machines and versions**", ""]
    for method, told in METHODS.items():
        mine = [result for result in results if result["method"] == method]
        for line in sorted({_setting(result) for result in mine}):
            loads = [result["machine"]["load_before"] for result in mine if _setting(result) == line]
            busy = f"load before the run {min(loads)} to {max(loads)}"
            lines.append(f"- {told}: {line}; {busy} ({len(loads)} results)")
    lines += ["", "Each result's file holds the command that measures it.", ""]
    return "\n".join(lines)


def plot_errors(groups: Groups, page: Path) -> list[str]:
    """Draw the error of each method on each set, and give the files' names."""
    errors = {key: results for key, results in groups.items() if results[0]["measure"] == "error"}
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
            color=_colour(method),
            label=METHODS[method],
        )
    axes.set_xticks(range(len(sets)), sets)
    axes.set_ylabel("test error, %")
    axes.set_ylim(bottom=0)
    _add_legend(figure)
    return _saved(pyplot, figure, page, "errors")


def plot_labels(groups: Groups, page: Path) -> list[str]:
    """Draw IMDb's error by the number of labels, and give the files' names."""
    methods = [name for name in METHODS if sum((known, name) in groups for known in _LABELLED_SETS) > 1]
    if not methods:
        return []
    pyplot = plots()
    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    for method in methods:
        known = [name for name in _LABELLED_SETS if (name, method) in groups]
        values = [[100 * value for value in best_values(groups[name, method])] for name in known]
        axes.errorbar(
            [_LABELLED_SETS[name] for name in known],
            [statistics.mean(value) for value in values],
            yerr=[_spread(value) for value in values],
            marker="o",
            capsize=3,
            color=_colour(method),
            label=METHODS[method],
        )
    axes.set_xscale("log")
    ticks = [count for name, count in _LABELLED_SETS.items() if any((name, method) in groups for method in methods)]
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("labeled reviews (IMDb)")
    axes.set_ylabel("test error, %")
    axes.set_ylim(bottom=0)
    _add_legend(figure)
    return _saved(pyplot, figure, page, "labels")


def best_values(results: Sequence[Result]) -> list[float]:
    """Return what a method is judged by, a value a seed: its ensemble, or its only model."""
    return [
        result["scores"][ENSEMBLE if ENSEMBLE in result["scores"] else SINGLE][result["measure"]] for result in results
    ]


def _told(results: Sequence[Result], model: str, is_f1: bool) -> str:
    values = [100 * found[model][results[0]["measure"]] for result in results if model in (found := result["scores"])]
    if not values:
        return ""
    digits = 1 if is_f1 else 2
    mean = f"{statistics.mean(values):.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean


def _spread(values: Sequence[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0


def _minutes(results: Sequence[Result]) -> str:
    def told(clock: str) -> str:
        own, shared = (
            [result["times"][what][clock] / 60 for result in results if what in result["times"]]
            for what in ("train", "shared")
        )
        mean = statistics.mean(own)
        minutes = f"{mean:.1f}" if mean >= 0.95 else f"{mean:.2f}"
        return f"{minutes} + {statistics.mean(shared):.1f}" if shared else minutes

    is_short = any(result["facts"].get("was_resumed") for result in results)  # what ran before a stop is not counted
    return f"{'> ' * is_short}{told('wall_s')} ({told('cpu_s')})"


def _speed(results: Sequence[Result]) -> str:
    def told(clock: str) -> str:
        speeds = [result["rows"]["test"] / result["times"]["predict"][clock] for result in results]
        return f"{statistics.mean(speeds):,.0f}"

    return f"{told('wall_s')} ({told('cpu_s')})"


def _setting(result: Result) -> str:
    packages = ", ".join(f"{name} {version}" for name, version in result["versions"].items())
    return f"{machine_told(result['machine'])}; {packages}"


def _headed(machine: str, lines: str) -> str:
    return f"**{machine}**\n\n{lines}"


def plots() -> Any:
    """Return pyplot, set to draw the same file from the same numbers, without a screen."""
    import matplotlib as mpl  # noqa: PLC0415  (only where plots are made)

    mpl.use("agg")
    mpl.rcParams["svg.hashsalt"] = "bothways"
    mpl.rcParams["axes.spines.top"] = mpl.rcParams["axes.spines.right"] = False
    from matplotlib import pyplot  # noqa: PLC0415

    return pyplot


def _colour(method: str) -> str:
    """Return the same colour to a method in every plot."""
    return f"C{list(METHODS).index(method)}"


def _add_legend(figure: Any) -> None:
    figure.legend(frameon=False, loc="outside upper center", ncols=3)


def _saved(pyplot: Any, figure: Any, page: Path, name: str) -> list[str]:
    file = page.with_name(f"{page.stem}-{name}.svg")
    figure.savefig(file, metadata={"Date": None})
    pyplot.close(figure)
    return [file.name]
