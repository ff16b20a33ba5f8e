"""Show an audit as a page, and as a table of findings.

In: an audit. Out: the bytes of an HTML document, or of a CSV file. Both contain texts of the data.
"""

from __future__ import annotations

import csv
import io

from bothways.errors import shown
from bothways.pages.charts import figure
from bothways.pages.elements import Markup, element, section, table
from bothways.pages.figures import Matrix
from bothways.pages.shell import document, headline
from bothways.text.fields import fields_of
from bothways.training.audit import KINDS, Audit, Finding, Kind

_SHOWN = 100
"""Number of findings of each kind on a page."""
_LONGEST_TEXT = 300
_CONFUSIONS_SHOWN = 20
_LARGEST_MATRIX = 20
TITLES: dict[Kind, str] = {
    "label-error": "Label errors",
    "conflicting-labels": "Conflicting labels",
    "test-leak": "Test leaks",
    "duplicate": "Duplicates",
    "near-duplicate": "Near-duplicates",
    "unusual-text": "Unusual texts",
    "invalid-row": "Invalid rows",
}
"""What each kind is called."""
_DESCRIPTIONS: dict[Kind, str] = {
    "label-error": "A model that has not seen the row finds another label more probable. The score is the probability "
    "of the suggestion, where only it and the given label are possible. Read the row before you change it.",
    "conflicting-labels": "The same text has several labels. The score is the share of its rows with another label.",
    "test-leak": "The text is also in the test set, so that a model is tested on what it learned. Remove these rows.",
    "duplicate": "An earlier row has the same text, apart from upper case and white space.",
    "near-duplicate": "An earlier row has nearly the same text. The score is the share of the sequences of five "
    "characters that both have in common.",
    "unusual-text": "The text differs from the rest: empty, broken, in another script, of extreme length, code, or of "
    "words that no other text has.",
    "invalid-row": "The row has no usable text or label. Training refuses it, or leaves it out with --drop-invalid.",
}
_HEADLINE: tuple[Kind, ...] = ("label-error", "conflicting-labels", "test-leak", "duplicate")
_COLUMNS = ("kind", "row", "score", "label", "suggestion", "other_row", "reason", "text")


def audit_csv(audit: Audit) -> bytes:
    """Return all findings as a CSV file in UTF-8, one row each, with their texts."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for each in audit.findings:
        other = "" if each.other_row is None else each.other_row
        text = "\n".join(fields_of(each.text))
        writer.writerow(
            [each.kind, each.row, f"{each.score:.4f}", each.label, each.suggestion, other, each.reason, text]
        )
    return file.getvalue().encode()


def audit_html(audit: Audit) -> bytes:
    """Return an audit as one HTML document that loads nothing and runs no script."""
    counts = {kind: count for kind, count in audit.counts.items() if count}
    links = [
        element("li", element("a", TITLES[kind], href=f"#{kind}"), f" {count:,}") for kind, count in counts.items()
    ]
    if audit.confusions:
        links.append(element("li", element("a", "Confused classes", href="#confused")))
    return document(
        f"Audit of {audit.data}",
        element("h1", f"Audit of {audit.data}"),
        element(
            "p",
            "Findings are candidates, the most suspicious first. Row numbers start at 1 and do not count the header. "
            "This page contains texts of your data. It is one file that loads nothing.",
            class_="soft",
        ),
        _headline(audit),
        element("nav", element("ul", links), aria_label="Sections"),
        element("ul", [element("li", note) for note in audit.notes]) if audit.notes else None,
        [_findings(audit, kind) for kind in KINDS if kind in counts],
        _confused(audit) if audit.confusions else None,
    )


def _headline(audit: Audit) -> Markup:
    counts = audit.counts
    entries = [("rows", f"{audit.rows:,}", f"{len(audit.labels):,} labels" if audit.labels else audit.task)]
    names = [kind for kind in _HEADLINE if kind in counts]
    entries += [
        (TITLES[kind].lower(), f"{counts[kind]:,}", f"{counts[kind] / audit.rows:.1%} of the rows") for kind in names
    ]
    return headline(entries)


def _findings(audit: Audit, kind: Kind) -> Markup:
    found = audit.of_kind(kind)
    more = f" The first {_SHOWN} of {len(found):,} are shown." if len(found) > _SHOWN else ""
    columns = {
        "row": [f"{each.row}" for each in found],
        "score": [f"{each.score:.2f}" for each in found],
        "label": [each.label for each in found],
        "suggestion": [each.suggestion for each in found],
        "other row": ["" if each.other_row is None else f"{each.other_row}" for each in found],
        "reason": [each.reason for each in found],
        "text": [_text(each) for each in found],
    }
    kept = {name: values[:_SHOWN] for name, values in columns.items() if any(values)}
    rows = list(zip(*kept.values(), strict=True))
    return section(kind, TITLES[kind], element("p", _DESCRIPTIONS[kind] + more), table(list(kept), rows))


def _text(finding: Finding) -> str:
    return shown(" · ".join(fields_of(finding.text)), _LONGEST_TEXT)


def _confused(audit: Audit) -> Markup:
    rows = [
        [each.label, each.predicted, f"{each.rows:,}", f"{each.share:.1%}"]
        for each in audit.confusions[:_CONFUSIONS_SHOWN]
    ]
    parts = [table(["label", "predicted", "rows", "share of the label"], rows)]
    if audit.confusion is not None and len(audit.labels) <= _LARGEST_MATRIX:
        counts = tuple(map(tuple, audit.confusion))
        matrix = Matrix(
            "confusion",
            "Confusion matrix",
            "Rows by given and by predicted label. Shades show the share of the given label.",
            "label",
            "predicted",
            audit.labels,
            counts,
        )
        parts.append(figure(matrix))
    description = (
        "Classes that a model predicts for rows of another class. Each row is predicted by a model that has not seen "
        "it. Check whether the labels of such a pair can be distinguished, and whether their definitions overlap."
    )
    return section("confused", "Confused classes", element("p", description), parts)
