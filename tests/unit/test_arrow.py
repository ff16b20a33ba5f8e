"""Arrow batches are scored row by row: same numbers as one text alone, same order, and no row is lost."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import bothways
import bothways.arrow
from bothways.arrow import ERROR_COLUMN, Scorer
from bothways.evaluation.predicted_rows import output_columns
from bothways.runtime.classifier import Classifier
from bothways.text.reading import Direction
from tests.bundles import write_with_early_exit

TEXTS = ["a lovely film", "", "it was dull and far too long", "HATED it", "so so", "🙂 нет"]


def batch(texts: Sequence[str | None], **more: list[object]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({"text": pa.array(texts, pa.string()), **more})


def table_of(batches: Iterator[pa.RecordBatch]) -> pa.Table:
    return pa.Table.from_batches(list(batches))


@settings(deadline=None)
@given(parts=st.lists(st.lists(st.sampled_from([*TEXTS, None]), max_size=7), min_size=1, max_size=6))
def test_every_row_has_the_numbers_of_its_text_alone_however_rows_are_divided(
    model: Classifier, bundle_path: Path, parts: list[list[str | None]]
) -> None:
    """Guarantees 2 and 4. Rows without a text are at their place, with the reason."""
    texts = [text for part in parts for text in part]
    found = list(bothways.arrow.score(map(batch, parts), bundle_path))
    assert [len(each) for each in found] == [len(part) for part in parts]
    rows = pa.Table.from_batches(found).to_pylist()
    for row, text in zip(rows, texts, strict=True):
        assert row.pop("text") == text
        error = row.pop(ERROR_COLUMN)
        if text is None:
            assert set(row.values()) == {None}
            assert error == "column 'text': the text is missing (null); remove the row, or write an empty text"
        else:
            assert error is None
            expected = model.task.cells(model.predict_proba([text])[0])
            assert list(row.values()) == expected


def test_the_columns_are_those_of_files_for_every_task(
    bundle_path: Path,
    multi_label_bundle_path: Path,
    regression_bundle_path: Path,
    targets_bundle_path: Path,
    linear_bundle_path: Path,
    qrnn_bundle_path: Path,
    tmp_path: Path,
) -> None:
    """A Parquet file scored as a file and the same rows scored as batches are equal, with their types."""
    from pyarrow import parquet

    source = pa.Table.from_batches([batch(TEXTS, id=list(range(len(TEXTS))))])
    parquet.write_table(source, tmp_path / "d.parquet")
    lstms = [bundle_path, multi_label_bundle_path, regression_bundle_path, targets_bundle_path]
    for number, path in enumerate([*lstms, linear_bundle_path, qrnn_bundle_path]):
        out = tmp_path / f"{number}.parquet"
        bothways.score(path, tmp_path / "d.parquet", out)
        scorer = Scorer(path, errors="raise")
        found = table_of(scorer(source.to_batches()))
        assert found.equals(parquet.read_table(out))
        assert found.schema == scorer.schema(source.schema)


def test_texts_of_several_columns(fields_model: Classifier, fields_bundle_path: Path) -> None:
    columns = fields_model.text_columns
    rows = [("a title", "a body"), (None, "only a body"), (None, None)]
    source = pa.RecordBatch.from_pydict(
        {name: pa.array([row[number] for row in rows], pa.string()) for number, name in enumerate(columns)}
    )
    *usable, missing = table_of(bothways.arrow.score([source], fields_bundle_path)).to_pylist()
    labels = [row["predicted_label"] for row in usable]
    assert labels == fields_model.predict([("a title", "a body"), ("", "only a body")]).tolist()
    assert missing["predicted_label"] is None
    assert "missing" in missing[ERROR_COLUMN]


def test_tables_readers_and_single_batches_are_scored_too_and_nothing_else(bundle_path: Path) -> None:
    one = batch(TEXTS)
    expected = table_of(bothways.arrow.score([one], bundle_path))
    reader = pa.RecordBatchReader.from_batches(one.schema, [one])
    for source in (one, pa.Table.from_batches([one]), reader):
        assert table_of(bothways.arrow.score(source, bundle_path)) == expected
    for wrong in (TEXTS, {"text": TEXTS}, [[1]]):
        with pytest.raises(bothways.DataError, match=r"got a (str|list), expected record batches, or a table"):
            list(bothways.arrow.score(wrong, bundle_path))


@pytest.mark.parametrize("kind", [pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())], ids=str)
def test_texts_of_every_arrow_type(kind: pa.DataType, bundle_path: Path) -> None:
    """Engines differ in the type of their text columns."""
    source = pa.table({"text": pa.array(TEXTS).cast(kind)})
    plain = bothways.arrow.score([batch(TEXTS)], bundle_path)
    assert table_of(bothways.arrow.score(source, bundle_path)).drop("text") == table_of(plain).drop("text")


def test_values_that_are_no_texts_are_rows_with_an_error(bundle_path: Path) -> None:
    reasons = {"the text is int 1, expected a string": [1, 1], "expected a string. Decode it first": [b"\xff", b"x"]}
    for reason, values in reasons.items():
        found = table_of(bothways.arrow.score([pa.RecordBatch.from_pydict({"text": values})], bundle_path))
        assert found["predicted_label"].null_count == 2
        assert all(reason in error for error in found[ERROR_COLUMN].to_pylist())


def test_errors_can_be_raised_with_the_number_of_the_row(bundle_path: Path) -> None:
    batches = [batch(["fine", "fine"]), batch(["fine", None])]
    with pytest.raises(bothways.DataError, match="row 4, column 'text': the text is missing"):
        list(bothways.arrow.score(batches, bundle_path, errors="raise"))


def test_columns_can_be_chosen(bundle_path: Path, tmp_path: Path) -> None:
    found = table_of(
        bothways.arrow.score(
            [batch(TEXTS)], bundle_path, columns=["predicted_probability", "predicted_label"], errors="raise"
        )
    )
    assert found.column_names == ["text", "predicted_probability", "predicted_label"]
    path = write_with_early_exit(bundle_path, tmp_path / "m.bundle", Direction.FORWARD, [f"text {n}" for n in range(9)])
    fast = bothways.load(path, early_exit=True)
    found = table_of(
        bothways.arrow.score([batch(TEXTS)], path, columns="predicted_read", early_exit=True, abstain=True)
    )
    assert found["predicted_read"].to_pylist() == [prediction.read for prediction in fast.stream(TEXTS)]
    assert list(output_columns(fast))[:3] == ["predicted_label", "predicted_probability", "predicted_read"]


def test_a_decision_that_means_little_can_be_left_empty(bundle_path: Path) -> None:
    found = table_of(bothways.arrow.score([batch(["", "a film"])], bundle_path, abstain=True))
    assert found["predicted_label"].is_null().to_pylist() == [True, False]
    assert found[ERROR_COLUMN].null_count == 2, "such a text is no error"


def test_an_endless_iterable_is_scored_as_it_comes(bundle_path: Path) -> None:
    def endless() -> Iterator[pa.RecordBatch]:
        while True:
            yield batch(TEXTS)

    found = bothways.arrow.score(endless(), bundle_path)
    assert [len(next(found)) for _ in range(3)] == [len(TEXTS)] * 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"errors": "ignore"}, "errors is 'ignore', expected 'column' or 'raise'"),
        ({"columns": ["label"]}, "the model has no column 'label'. It has 'predicted_label', 'predicted_probability'"),
        ({"columns": ["predicted_label"] * 2}, "named twice"),
        ({"precision": "int4"}, "unknown precision 'int4'"),
        ({"threads": 0}, "threads is 0"),
        ({"text": ["title", "body"]}, "2 text columns are named, but the model reads"),
    ],
)
def test_impossible_options_are_refused_before_any_batch(
    options: dict[str, object], message: str, bundle_path: Path
) -> None:
    with pytest.raises(bothways.ConfigError) as caught:
        bothways.arrow.score([], bundle_path, **options)  # type: ignore[arg-type]
    assert message in str(caught.value)


def test_wrong_columns_are_refused_with_those_that_there_are(bundle_path: Path) -> None:
    scorer = Scorer(bundle_path)
    other = pa.schema([("review", pa.string())])
    taken = pa.schema([("text", pa.string()), ("predicted_label", pa.string())])
    for schema, message in (
        (other, "the batches have no column 'text'. They have 'review'. Choose one with text="),
        (taken, "the batches already have a column 'predicted_label'. Rename or drop it first"),
    ):
        with pytest.raises(bothways.DataError) as caught:
            scorer.schema(schema)
        assert str(caught.value) == message
        with pytest.raises(bothways.DataError):
            list(scorer([pa.RecordBatch.from_pylist([], schema)]))


def test_a_sent_scorer_loads_the_bundle_once_per_process_and_refuses_another_one(
    bundle_path: Path, linear_bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "m.bundle"
    shutil.copytree(bundle_path, path)
    sent = pickle.dumps(Scorer(path))
    assert len(sent) < 1000
    loads: list[str] = []

    def load(path: str, **options: object) -> Classifier:
        loads.append(path)
        return bothways.load(path, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(bothways.arrow, "load", load)
    bothways.arrow._models.clear()  # as in another process
    expected = table_of(Scorer(bundle_path)([batch(TEXTS)]))
    loads.clear()
    assert table_of(pickle.loads(sent)([batch(TEXTS)])) == expected
    assert table_of(pickle.loads(sent)([batch(TEXTS)])) == expected
    assert loads == [], "the same bundle at another path is loaded already"
    shutil.rmtree(path)
    shutil.copytree(linear_bundle_path, path)
    bothways.arrow._models.clear()
    with pytest.raises(bothways.BundleBroken, match="put the bundle of the scorer there"):
        list(pickle.loads(sent)([batch(TEXTS)]))
    shutil.rmtree(path)
    with pytest.raises(bothways.BundleMissing):
        list(pickle.loads(sent)([batch(TEXTS)]))


def test_a_process_keeps_four_models(bundle_path: Path) -> None:
    for threads in range(1, 6):
        Scorer(bundle_path, threads=threads)
    assert len(bothways.arrow._models) == 4
