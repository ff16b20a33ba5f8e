"""The picture of the loss curves, drawn from the metrics of a run in any state."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

from bothways.errors import ConfigError, DataError, DependencyMissing, OutputExists
from bothways.text.reading import Direction
from bothways.training.curves import draw, plotted, refuse_unusable_plot
from bothways.training.reports import EpochReport, Report, StageReport, StepReport, dump_report

SIGNATURES = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}


def some_metrics(folder: Path, end: str = "") -> Path:
    """Write the metrics of two stages in both directions, and return their path."""
    lines = [dump_report(StageReport("tokenizer"), time_s=1.0)]
    for stage, metric in (("language model", "perplexity"), ("classifier", "accuracy")):
        for direction in Direction:
            for step in range(1, 41):
                report: Report = StepReport(stage, direction, 1, 4, step, 40, 500.0 / step, 0.1, 0.5, 64)
                lines.append(dump_report(report, time_s=1.0))
                if step % 10 == 0:
                    metrics = {"loss": 1.0, metric: 0.5 + step / 100}
                    report = EpochReport(stage, direction, step // 10, 4, step, metrics, 1.0, is_best=step < 40)
                    lines.append(dump_report(report, time_s=1.0))
    run = folder / "a $b$ \u4f60.run"
    run.mkdir()
    path = run / "metrics.jsonl"
    path.write_text("\n".join(lines) + "\n" + end, encoding="utf-8")
    return path


@pytest.mark.parametrize("suffix", SIGNATURES)
def test_a_picture_is_drawn_in_each_format(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"curves{suffix}"
    draw(path, some_metrics(tmp_path, end='{"report": "StepRep'), "the forward classifier diverged")
    assert path.read_bytes().startswith(SIGNATURES[suffix])
    assert {child.name for child in tmp_path.iterdir()} == {path.name, "a $b$ \u4f60.run"}


def test_the_picture_shows_what_was_recorded(tmp_path: Path) -> None:
    path = tmp_path / "curves.svg"
    metrics = some_metrics(tmp_path)
    draw(path, metrics, "it diverged")
    first = path.read_bytes()
    draw(path, metrics, "it diverged")
    assert path.read_bytes() == first  # no date
    text = first.decode()
    for words in (
        "language model: loss",
        "classifier: validation accuracy",
        "forward -->",
        "training, smoothed -->",
        "best epoch -->",
        "0.8 -->",
        "stopped: it diverged",
        "a $b$",
    ):
        assert f"<!-- {words}" in text, words


@pytest.mark.parametrize("content", [None, "", "[]\n{}\n\xff\n"])
def test_a_run_without_a_step_has_an_empty_picture(tmp_path: Path, content: str | None) -> None:
    metrics = tmp_path / "metrics.jsonl"
    if content is not None:
        metrics.write_text(content, encoding="latin-1")
    draw(tmp_path / "curves.svg", metrics)
    assert "no step was taken yet" in (tmp_path / "curves.svg").read_text()


def a_run(error: BaseException | None) -> Iterator[Report]:
    yield StageReport("bundle")
    if error is not None:
        raise error


def test_the_picture_is_drawn_at_the_end_and_when_a_run_fails(tmp_path: Path) -> None:
    path, metrics = tmp_path / "curves.svg", some_metrics(tmp_path)
    assert list(plotted(a_run(None), path, metrics)) == [StageReport("bundle"), StageReport("plot", str(path))]
    assert "stopped" not in path.read_text()
    for error, reason in ((DataError("no room"), "no room"), (KeyboardInterrupt(), "KeyboardInterrupt")):
        with pytest.raises(type(error)):
            list(plotted(a_run(error), path, metrics))
        assert f"<!-- stopped: {reason}" in path.read_text()


def test_a_picture_that_cannot_be_drawn_does_not_stop_a_run(tmp_path: Path) -> None:
    path, metrics = tmp_path / "gone" / "curves.png", some_metrics(tmp_path)
    *_, last = plotted(a_run(None), path, metrics)
    assert isinstance(last, StageReport)
    assert last.is_warning
    assert last.message.startswith(f"{path} could not be drawn: the folder {path.parent} does not exist")
    with pytest.raises(DataError, match=r"^no room$"):
        list(plotted(a_run(DataError("no room")), path, metrics))


def test_a_place_for_a_picture_is_checked_before_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_unusable_plot(tmp_path / "new.PNG")
    with pytest.raises(ConfigError, match=r"^--plot .*curves\.jpg: expected a file name that ends in \.png, \.svg, "):
        refuse_unusable_plot(tmp_path / "curves.jpg")
    with pytest.raises(ConfigError, match=r"^the folder .*gone does not exist: create it first$"):
        refuse_unusable_plot(tmp_path / "gone" / "curves.png")
    for suffix, signature in SIGNATURES.items():
        ours, theirs = tmp_path / f"ours{suffix}", tmp_path / f"theirs{suffix}"
        draw(ours, tmp_path / "metrics.jsonl")
        refuse_unusable_plot(ours)  # of an earlier try
        theirs.write_bytes(signature + b"a picture of the user")
        with pytest.raises(OutputExists, match=rf"theirs\{suffix} exists: choose another --plot, or remove it first$"):
            refuse_unusable_plot(theirs)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(DependencyMissing, match=r"^--plot needs matplotlib: pip install 'bothways\[plot\]'$"):
        refuse_unusable_plot(tmp_path / "new.png")
