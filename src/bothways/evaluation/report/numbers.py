"""Define the numbers of a report as plain data. Rendering is separate (``page``)."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from bothways.evaluation.evaluate import Evaluation
from bothways.evaluation.report.comparison import Difference, PairedComparison
from bothways.evaluation.report.learning_curve import LearningPoint
from bothways.pages.figures import Figure


@dataclass(frozen=True)
class ReportedRow:
    """A row that a report lists.

    Attributes:
        row: Its number, from 1, among the rows that were read.
        true: What is true of it.
        answers: What each member answers; for a comparison what ``before`` and ``after`` answer.
        confidence: Confidence of the ensemble, 0..1; None for regression.
        error: Error of the ensemble: 1 for a wrong answer, or a distance.
        text: The beginning of its text; None unless texts were requested.
    """

    row: int
    true: str
    answers: dict[str, str]
    confidence: float | None
    error: float
    text: str | None = None


@dataclass(frozen=True)
class BundleComparison:
    """What changes from another bundle to this one, on the same rows.

    Attributes:
        digest: SHA-256 that identifies the other bundle.
        name: Name of the other bundle.
        differences: The headline metrics of both, with the intervals of their differences.
        rows: Number of rows that became better and worse, with an exact test.
        improved: Rows that became right, or whose values came closest to the truth: at most 50.
        worsened: Rows that became wrong, or whose values moved away: at most 50.
        unknown: Number of rows with labels that the other bundle does not know. They count as its errors.
    """

    digest: str
    name: str
    differences: dict[str, Difference]
    rows: PairedComparison
    improved: tuple[ReportedRow, ...]
    worsened: tuple[ReportedRow, ...]
    unknown: int


@dataclass(frozen=True)
class Section:
    """A part of a report.

    Attributes:
        key: Identifies it on the page.
        title: Heading.
        text: What it shows.
        figures: Its charts and tables.
    """

    key: str
    title: str
    text: str
    figures: tuple[Figure, ...]


@dataclass(frozen=True, repr=False)
class Report:
    """How good a model is on labeled rows, and what it gets wrong.

    Attributes:
        evaluation: Metrics with confidence intervals, as ``evaluate`` returns them.
        members: What changes on the same rows from each direction, or the linear member, to the ensemble.
        mistakes: The most confident mistakes, or for regression the largest errors: at most 20.
        learning_curve: Estimate of the first headline metric by number of training rows, of a linear model. Empty
            without training rows.
        against: Comparison with another bundle; None without one.
        sections: The sections of the page, whose charts and tables hold all other numbers.
    """

    evaluation: Evaluation
    members: dict[str, PairedComparison]
    mistakes: tuple[ReportedRow, ...]
    learning_curve: tuple[LearningPoint, ...]
    against: BundleComparison | None
    sections: tuple[Section, ...]

    def __repr__(self) -> str:
        return f"Report({self.evaluation})"

    def __str__(self) -> str:
        return str(self.evaluation)

    def to_dict(self) -> dict[str, object]:
        """Return all numbers but those of the sections as lists, dicts, strings and numbers, for ``json.dumps``."""
        return {
            "evaluation": self.evaluation.to_dict(),
            "members": {name: asdict(found) for name, found in self.members.items()},
            "mistakes": [asdict(row) for row in self.mistakes],
            "learning_curve": [asdict(point) for point in self.learning_curve],
            "against": None if self.against is None else asdict(self.against),
        }
