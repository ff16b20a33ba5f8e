"""Render a report as one self-contained HTML page.

In: a ``Report``. Out: the bytes of the page. It contains no text of the rows unless the report does.
"""

from __future__ import annotations

from bothways.bundle.parity import ENSEMBLE
from bothways.data.invalid import summary
from bothways.evaluation.report.numbers import Report, Section
from bothways.pages.charts import figure
from bothways.pages.elements import Markup, element, section
from bothways.pages.shell import document, headline
from bothways.tasks.metrics import few_rows_warning, metric_text, metric_title
from bothways.version import __version__


def page(report: Report, name: str) -> bytes:
    """Return the page of a report.

    Args:
        report: The report.
        name: Name of the bundle.
    """
    evaluation = report.evaluation
    title = f"{name} on {evaluation.data}"
    numbers = [
        (
            metric_title(metric),
            metric_text(metric, evaluation.summary[ENSEMBLE][metric]),
            f"95 % interval {' to '.join(metric_text(metric, bound) for bound in bounds)}",
        )
        for metric, bounds in evaluation.intervals.items()
    ]
    links = [element("li", element("a", each.title, href=f"#{each.key}")) for each in report.sections]
    return document(
        title,
        element("header", element("h1", title), element("p", _what(report), class_="soft")),
        headline(numbers),
        [element("p", warning, class_="alarm") for warning in _warnings(report)],
        element("nav", element("ul", links), aria_label="Sections"),
        [_section(each) for each in report.sections],
        element(
            "footer",
            element(
                "p",
                f"Made by bothways {__version__} from the bundle with digest ",
                element("code", evaluation.digest),
                ". The intervals hold for rows like these. They do not include how much another training run would "
                "differ.",
            ),
        ),
    )


def _what(report: Report) -> str:
    evaluation = report.evaluation
    labels = f", {len(evaluation.labels):,} labels" if evaluation.labels else ""
    return f"Evaluation report: {evaluation.task}, {evaluation.rows:,} rows{labels}."


def _warnings(report: Report) -> list[str]:
    evaluation = report.evaluation
    found = []
    if few := few_rows_warning(evaluation.summary[ENSEMBLE], evaluation.rows, "rows"):
        found.append(f"Warning: {few}.")
    if evaluation.unknown:
        found.append(f"{evaluation.unknown:,} rows have labels that the model does not know. They count as errors.")
    if evaluation.invalid:
        found.append(f"{len(evaluation.invalid):,} invalid rows were left out: {summary(evaluation.invalid)}")
    return found


def _section(each: Section) -> Markup:
    return section(
        each.key,
        each.title,
        element("p", each.text) if each.text else None,
        element("div", [figure(shown) for shown in each.figures], class_="figures"),
    )
