"""Turn scored rows into the sections of a report: which figures it has, and what they show.

In: rows with the scores of a model, and of another one. Out: sections with charts and tables as plain data. What only a
task can know (what an error is, which charts make sense) comes from the task.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from bothways.bundle.parity import ENSEMBLE
from bothways.errors import shown
from bothways.evaluation.evaluate import Evaluation
from bothways.evaluation.report.comparison import PairedComparison, differences, paired
from bothways.evaluation.report.learning_curve import LearningPoint
from bothways.evaluation.report.numbers import BundleComparison, ReportedRow, Section
from bothways.evaluation.scored_rows import ScoredRows
from bothways.pages.elements import Cell
from bothways.pages.figures import Axis, Chart, Figure, Series, Table, as_points
from bothways.tasks.metrics import SHARES, metric_text, metric_title
from bothways.text.fields import fields_of
from bothways.text.reading import Direction

MOST_MISTAKES = 20
MOST_CHANGES = 50
_LONGEST_TEXT = 300
_LONGEST_ANSWER = 80
_LENGTH_BINS = 6
Errors = NDArray[np.float64]


def member_comparisons(scored: ScoredRows) -> dict[str, PairedComparison]:
    """Return what changes on the same rows from each member to the ensemble."""
    errors = _errors(scored)
    return {name: paired(found, errors[ENSEMBLE]) for name, found in errors.items() if name != ENSEMBLE}


def members_section(evaluation: Evaluation, members: Mapping[str, PairedComparison]) -> Section:
    """Return the metrics of each member, and whether the ensemble is better than each."""
    names = list(dict.fromkeys(name for row in evaluation.summary.values() for name in row))
    rows: list[tuple[Cell, ...]] = []
    for name in names:
        bounds = evaluation.intervals.get(name)
        interval = None if bounds is None else " to ".join(metric_text(name, bound) for bound in bounds)
        rows.append(
            (metric_title(name), *(metric_text(name, row.get(name)) for row in evaluation.summary.values()), interval)
        )
    summary = Table(
        "summary",
        "Metrics by member",
        "The ensemble combines the others and is calibrated. The intervals are the ensemble's (95 %, bootstrap over "
        "rows, 1,000 resamples).",
        ("metric", *evaluation.summary, "95 % interval"),
        tuple(rows),
    )
    figures: list[Figure] = [summary]
    if len(members) > 1:
        figures.append(
            Table(
                "pairs",
                "Ensemble against each member, row by row",
                "Rows on which the ensemble has the smaller or the larger error. The p-value is that of the exact "
                "McNemar test (for values: sign test). A small one means that the difference is unlikely to be an "
                "accident of these rows.",
                ("member", "ensemble better", "ensemble worse", "equal", "p-value"),
                tuple((name, f.better, f.worse, f.equal, p_text(f.p_value)) for name, f in members.items()),
            )
        )
    return Section("members", "Directions, linear member and ensemble", "", tuple(figures))


def answers_section(scored: ScoredRows) -> Section:
    """Return the figures of the model's task."""
    return Section("answers", "Answers and confidence", "", tuple(scored.task.figures(scored.complete, scored.targets)))


def texts_section(scored: ScoredRows) -> Section:
    """Return the error by length of the text, and by agreement of the directions."""
    errors = _errors(scored)
    figures: list[Figure] = [_length_chart(scored, errors)]
    forward, backward = (str(direction) for direction in Direction)
    if {forward, backward} <= errors.keys():
        groups = scored.task.agreement(scored.scores[forward], scored.scores[backward])
        figures.append(
            _grouped(
                scored,
                {name: errors[name] for name in (forward, backward, ENSEMBLE)},
                groups,
                "agreement",
                "Forward against backward",
                "The {error} where the two directions agree and where they do not, with 95 % intervals: {shares}.",
                "forward and backward",
            )
        )
    return Section("texts", "Which texts are hard", "", tuple(figures))


def _length_chart(scored: ScoredRows, errors: Mapping[str, Errors]) -> Chart:
    edges = np.unique(np.quantile(scored.tokens, np.linspace(0, 1, _LENGTH_BINS + 1), method="closest_observation"))
    uppers = edges[1:] if len(edges) > 1 else edges
    numbers = np.searchsorted(uppers, scored.tokens)
    groups = []
    for number in range(len(uppers)):
        inside = numbers == number
        if inside.any():
            low, high = int(scored.tokens[inside].min()), int(scored.tokens[inside].max())
            groups.append((f"{low:,}" if low == high else f"{low:,}–{high:,}", inside))
    return _grouped(
        scored,
        {ENSEMBLE: errors[ENSEMBLE]},
        groups,
        "length",
        "Length against error",
        "The {error} by length of the text in tokens, in groups of about the same number of rows, with 95 % intervals.",
        "tokens per text",
    )


def _grouped(
    scored: ScoredRows,
    errors: Mapping[str, Errors],
    groups: Sequence[tuple[str, NDArray[np.bool_]]],
    key: str,
    title: str,
    description: str,
    axis: str,
) -> Chart:
    """Return a chart of the mean error of each member in groups of rows."""
    used = [(name, inside) for name, inside in groups if inside.any()]
    shares = ", ".join(f"{name} {inside.sum():,} rows ({inside.mean():.1%})" for name, inside in used)
    task = scored.task
    series = tuple(
        Series(
            member,
            as_points(range(len(used))),
            tuple(float(found[inside].mean()) for _, inside in used),
            "bars",
            tuple(task.error_interval(found[inside]) for _, inside in used),
        )
        for member, found in errors.items()
    )
    return Chart(
        key,
        title,
        description.format(error=task.error_name, shares=shares),
        Axis(axis, categories=tuple(name for name, _ in used)),
        Axis(task.error_name, percent=task.error_is_share, low=0),
        series,
    )


def learning_section(
    points: Sequence[LearningPoint], evaluation: Evaluation, source: str, shared_texts: int
) -> Section:
    """Return the estimated learning curve.

    Args:
        points: The curve.
        evaluation: The evaluation of the bundle on the same rows.
        source: Name of the training rows.
        shared_texts: Number of texts that are in both.
    """
    metric = next(iter(evaluation.intervals))
    title = metric_title(metric)
    *_, last = points
    gain = ""
    if len(points) > 1:
        before, after = (metric_text(metric, point.value) for point in points[-2:])
        gain = f" The last doubling of the training rows changed it from {before} to {after}."
    chart = Chart(
        "learning-curve",
        f"Estimated learning curve: {title}",
        f"A linear model of n-grams (TF-IDF), trained on growing random parts of the {last.rows:,} rows of "
        f"{shown(source)} and evaluated on the rows of this report, with 95 % intervals.{gain}",
        Axis("training rows", low=0),
        Axis(title, percent=metric in SHARES),
        (
            Series(
                "linear",
                tuple(float(point.rows) for point in points),
                tuple(point.value for point in points),
                "line",
                tuple(point.interval for point in points),
            ),
            Series(
                ENSEMBLE,
                (float(last.rows),),
                (evaluation.summary[ENSEMBLE][metric],),
                "points",
                (evaluation.intervals[metric],),
            ),
        ),
    )
    text = (
        "An estimate: the curve is that of a linear model, not of this bundle, whose level may differ. Its slope "
        "suggests whether more rows of the same kind would help."
    )
    if shared_texts:
        text += f" {shared_texts:,} texts are in the training rows and in this report, so the curve looks too good."
    return Section("learning", "Would more training rows help?", text, (chart,))


def mistakes(scored: ScoredRows, with_texts: bool) -> tuple[ReportedRow, ...]:
    """Return the rows with the most confident wrong answers, or the largest errors where there is no confidence."""
    errors = _errors(scored)[ENSEMBLE]
    confidence = scored.task.confidence(scored.scores[ENSEMBLE])
    order = np.argsort(-(errors if confidence is None else np.where(errors > 0, confidence, -1)), kind="stable")
    kept = [int(row) for row in order[:MOST_MISTAKES] if errors[row] > 0]
    return tuple(_reported(scored, row, confidence, errors, with_texts, _members_answers(scored, row)) for row in kept)


def mistakes_section(scored: ScoredRows, found: Sequence[ReportedRow], with_texts: bool) -> Section:
    """Return a table of mistakes."""
    ranking = "The most confident wrong answers" if scored.task.confidence_note else "The largest errors"
    wrong = int((_errors(scored)[ENSEMBLE] > 0).sum())
    text = (
        f"{ranking}: {len(found):,} of {wrong:,} rows with an error. They are often mislabeled, or hard for a "
        "person, too. Rows are numbered from 1, in the order in which they were read."
    )
    if not with_texts:
        text += " Texts are shown with --with-texts only."
    table = Table("mistakes-table", ranking, scored.task.confidence_note, *_row_cells(found))
    return Section("mistakes", "Mistakes", text, (table,) if found else ())


def bundle_comparison(before: ScoredRows, after: ScoredRows, name: str, with_texts: bool) -> BundleComparison:
    """Return what changes from another model to this one, on the same rows.

    Args:
        before: The rows with the scores of the other model.
        after: The same rows with the scores of this one.
        name: Name of the other model.
        with_texts: Whether to show texts.
    """
    first, second = _errors(before)[ENSEMBLE], _errors(after)[ENSEMBLE]
    confidence = after.task.confidence(after.scores[ENSEMBLE])
    change = second - first

    def rows(by: Errors, keep: Callable[[int], bool]) -> tuple[ReportedRow, ...]:
        order = [int(row) for row in np.argsort(-by, kind="stable") if keep(int(row))][:MOST_CHANGES]
        return tuple(
            _reported(
                after,
                row,
                confidence,
                second,
                with_texts,
                {
                    "before": before.task.answer(before.scores[ENSEMBLE][row]),
                    "after": after.task.answer(after.scores[ENSEMBLE][row]),
                },
            )
            for row in order
        )

    weight = np.ones_like(change) if confidence is None else confidence
    return BundleComparison(
        digest=before.digest,
        name=name,
        differences=differences(before, after, ENSEMBLE),
        rows=paired(first, second),
        improved=rows(-change * weight, lambda row: bool(change[row] < 0)),
        worsened=rows(change * weight, lambda row: bool(change[row] > 0)),
        unknown=before.unknown,
    )


def against_section(found: BundleComparison) -> Section:
    """Return the comparison with another bundle."""
    name, rows = shown(found.name), found.rows
    metrics = Table(
        "against-metrics",
        "Metrics of both",
        "Intervals are those of the difference (95 %, bootstrap over the same rows of both).",
        ("metric", "before", "after", "difference", "95 % interval"),
        tuple(
            (
                metric_title(metric),
                metric_text(metric, each.before),
                metric_text(metric, each.after),
                metric_change(metric, each.after - each.before),
                " to ".join(metric_change(metric, bound) for bound in each.interval),
            )
            for metric, each in found.differences.items()
        ),
    )
    counts = Table(
        "against-rows",
        "Row by row",
        f"p-value of the exact McNemar test (for values: sign test): {p_text(rows.p_value)}.",
        ("improved", "worsened", "unchanged"),
        ((rows.better, rows.worse, rows.equal),),
    )
    figures: list[Figure] = [metrics, counts]
    for key, title, listed, count in (
        ("improved", "Improved rows", found.improved, rows.better),
        ("worsened", "Worsened rows", found.worsened, rows.worse),
    ):
        if listed:
            figures.append(Table(key, title, f"{len(listed):,} of {count:,} rows.", *_row_cells(listed)))
    unknown = (
        f" {found.unknown:,} rows have labels that {name} does not know, and count as its errors."
        if found.unknown
        else ""
    )
    text = f"From {name} (digest {found.digest[:12]}…) to this bundle, on the same rows.{unknown}"
    return Section("against", "Against another bundle", text, tuple(figures))


def metric_change(name: str, change: float) -> str:
    """Return the difference of a metric with a sign, of a share of the rows in percentage points."""
    if name in SHARES:
        return f"{100 * change:+.2f} points"
    return f"{change:+.4g}"


def p_text(value: float) -> str:
    """Return a p-value."""
    return "< 0.0001" if value < 1e-4 else f"{value:.4f}"


def _errors(scored: ScoredRows) -> dict[str, Errors]:
    return {name: scored.task.row_errors(found, scored.targets) for name, found in scored.complete.items()}


def _members_answers(scored: ScoredRows, row: int) -> dict[str, str]:
    return {name: scored.task.answer(found[row]) for name, found in scored.complete.items()}


def _reported(
    scored: ScoredRows, row: int, confidence: Errors | None, errors: Errors, with_texts: bool, answers: dict[str, str]
) -> ReportedRow:
    return ReportedRow(
        row=row + 1,
        true=scored.task.truth(scored.targets[row]),
        answers=answers,
        confidence=None if confidence is None else float(confidence[row]),
        error=float(errors[row]),
        text=shown(" · ".join(" ".join(field.split()) for field in fields_of(scored.rows.texts[row])), _LONGEST_TEXT)
        if with_texts
        else None,
    )


def _row_cells(rows: Sequence[ReportedRow]) -> tuple[tuple[str, ...], tuple[tuple[Cell, ...], ...]]:
    """Return the columns and cells of a table of rows."""
    if not rows:
        return (), ()
    first = rows[0]
    measure = "error" if first.confidence is None else "confidence"
    columns = ("row", "true", *first.answers, measure, *(["text"] if first.text is not None else []))
    cells = []
    for row in rows:
        value = f"{row.error:.4g}" if row.confidence is None else f"{row.confidence:.1%}"
        text = [] if row.text is None else [row.text]
        answers = [shown(answer, _LONGEST_ANSWER) for answer in (row.true, *row.answers.values())]
        cells.append((f"{row.row:,}", *answers, value, *text))
    return columns, tuple(cells)
