from __future__ import annotations

from pathlib import Path

import pytest

from bothways.errors import ConfigError
from bothways.training.hyperparameters import RENAMED, SIZES, ClassifierConfig, Hyperparameters, load_hyperparameters


def toml(folder: Path, content: str) -> Path:
    path = folder / "c.toml"
    path.write_text(content, encoding="utf-8")
    return path


@pytest.mark.parametrize("size", SIZES)
def test_every_size_is_valid_and_larger_sizes_have_larger_layers(size: str) -> None:
    widths = [load_hyperparameters(name).encoder.hidden_size for name in SIZES]
    assert load_hyperparameters(size).encoder.hidden_size in widths
    assert widths == sorted(set(widths))


@pytest.mark.parametrize("size", SIZES)
def test_an_empty_file_changes_nothing(tmp_path: Path, size: str) -> None:
    assert load_hyperparameters(size, toml(tmp_path, "# nothing yet\n[classifier]\n")) == load_hyperparameters(size)


def test_a_file_changes_what_it_names_and_nothing_else(tmp_path: Path) -> None:
    path = toml(tmp_path, "[classifier]\nepochs = 77\n[language_model.dropouts]\nweight = 0.125\n")
    preset, changed = load_hyperparameters("tiny"), load_hyperparameters("tiny", str(path))
    assert changed.classifier.epochs == 77
    assert changed.language_model.dropouts.weight == 0.125
    expected = preset.model_dump()
    expected["classifier"]["epochs"] = 77
    expected["language_model"]["dropouts"] = changed.language_model.dropouts.model_dump()
    assert changed.model_dump() == expected


def test_class_weights_can_be_a_table_of_labels(tmp_path: Path) -> None:
    path = toml(tmp_path, '[classifier.class_weights]\nspam = 5\n"not spam" = 0.5\n')
    assert load_hyperparameters("tiny", path).classifier.class_weights == {"spam": 5.0, "not spam": 0.5}
    path = toml(tmp_path, '[classifier]\nclass_weights = "balanced"\n')
    assert load_hyperparameters("tiny", path).classifier.class_weights == "balanced"


def test_the_kind_of_the_encoder_is_an_option_or_a_key_and_recorded_unless_it_is_the_default(tmp_path: Path) -> None:
    default, lstm = load_hyperparameters("tiny"), load_hyperparameters("tiny", None, "lstm")
    assert (default.requested_encoder, lstm.requested_encoder) == (None, "lstm")
    assert "kind" not in lstm.model_dump(mode="json")["encoder"]
    of_key = load_hyperparameters("tiny", toml(tmp_path, "[encoder]\nkind = 'qrnn'\n"))
    assert of_key == load_hyperparameters("tiny", None, "qrnn") == default.with_encoder("qrnn")
    assert Hyperparameters.model_validate_json(of_key.model_dump_json()) == of_key
    assert of_key.model_dump(mode="json")["encoder"]["kind"] == of_key.requested_encoder == "qrnn"
    with pytest.raises(ConfigError, match=r"encoder\.kind is qrnn, but --encoder is lstm\. Drop one of them"):
        load_hyperparameters("tiny", tmp_path / "c.toml", "lstm")
    wide = load_hyperparameters("tiny", {"encoder": {"first_window": 2}}, "qrnn").encoder
    assert wide.model_dump()["first_window"] == wide.first_window == 2
    with pytest.raises(ConfigError, match=r'encoder\.first_window: needs kind = "qrnn" beside it, found 2'):
        load_hyperparameters("tiny", {"encoder": {"first_window": 2}})
    for unknown in ("gru", "QRNN", ""):
        with pytest.raises(ConfigError, match=f"^unknown encoder '{unknown}': expected lstm or qrnn$"):
            load_hyperparameters("tiny", None, unknown)  # type: ignore[arg-type]


def test_an_unknown_size_is_refused_with_the_known_sizes() -> None:
    with pytest.raises(ConfigError, match=r"^unknown size 'huge': expected one of tiny, small, base$"):
        load_hyperparameters("huge")


def test_all_errors_of_a_file_are_reported_at_once(tmp_path: Path) -> None:
    path = toml(
        tmp_path,
        """
        [encoder]
        hiden_size = 5
        layers = 0
        [classifier]
        batch_size = "many"
        learning_rate = -1
        [languagemodel]
        epochs = 3
        """,
    )
    with pytest.raises(ConfigError) as caught:
        load_hyperparameters("tiny", path)
    message = str(caught.value)
    assert message.startswith(f"{path} has 5 errors: ")
    assert "encoder.hiden_size: unknown key, did you mean hidden_size?" in message
    assert "languagemodel: unknown key, did you mean language_model?" in message
    assert "encoder.layers: input should be greater than or equal to 1, found 0" in message
    assert "classifier.learning_rate: input should be 'auto' or input should be greater than 0, found -1" in message
    assert "classifier.batch_size: input should be 'auto' or input should be a valid integer" in message
    assert "'many'" in message
    assert "\n" not in message


FORMER_KEYS = [
    (section, old, new)
    for old, new in RENAMED.items()
    for section, field in Hyperparameters.model_fields.items()
    if new in getattr(field.annotation, "model_fields", {})
]


@pytest.mark.parametrize(("section", "old", "new"), FORMER_KEYS)
def test_a_former_key_is_refused_with_its_present_name(tmp_path: Path, section: str, old: str, new: str) -> None:
    path = toml(tmp_path, f"[{section}]\n{old} = 1\n")
    with pytest.raises(ConfigError, match=rf"c\.toml has 1 error: {section}\.{old} was renamed: use {new}$"):
        load_hyperparameters("tiny", path)


def test_each_former_key_has_a_section() -> None:
    assert {old for _, old, _ in FORMER_KEYS} == set(RENAMED)


def test_a_former_key_in_another_section_is_unknown(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"has 1 error: tokenizer\.rate_peak: unknown key, expected one of"):
        load_hyperparameters("tiny", toml(tmp_path, "[tokenizer]\nrate_peak = 1\n"))


@pytest.mark.parametrize(("rows", "expected"), [(2, 16), (999, 16), (1000, 32), (3999, 32), (4000, 64), (10**6, 64)])
def test_the_batch_size_grows_with_the_number_of_texts(rows: int, expected: int) -> None:
    config = load_hyperparameters("small").classifier
    assert config.batch_size_for(rows) == expected
    assert ClassifierConfig(batch_size=7).batch_size_for(rows) == 7


@pytest.mark.parametrize(("texts_per_batch", "expected"), [(2, 0.005), (31.9, 0.005), (56.1, 0.005), (63.2, 0.01)])
def test_large_batches_have_a_higher_learning_rate_than_batches_of_few_or_long_texts(
    texts_per_batch: float, expected: float
) -> None:
    assert load_hyperparameters("small").classifier.learning_rate_for(texts_per_batch) == expected
    assert ClassifierConfig(learning_rate=0.2).learning_rate_for(texts_per_batch) == 0.2


def test_a_single_error_is_counted_as_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"c\.toml has 1 error: tokenizer\.vocabulary_size: input should be"):
        load_hyperparameters("tiny", toml(tmp_path, "[tokenizer]\nvocabulary_size = 3\n"))


def test_an_unknown_key_is_refused_with_the_known_keys(tmp_path: Path) -> None:
    path = toml(tmp_path, "[tokenizer]\nzzz = 1\n[classifier.dropouts]\nqqq = 1\n")
    with pytest.raises(ConfigError) as caught:
        load_hyperparameters("tiny", path)
    assert "tokenizer.zzz: unknown key, expected one of vocabulary_size" in str(caught.value)
    assert "classifier.dropouts.qqq: unknown key, expected one of embedding, input, weight" in str(caught.value)


@pytest.mark.parametrize("content", ["classifier = 3", 'encoder = "wide"', "[[classifier]]\nepochs = 3\n"])
def test_a_value_in_place_of_a_section_is_refused(tmp_path: Path, content: str) -> None:
    with pytest.raises(ConfigError, match=r"has 1 error: (classifier|encoder): input should be"):
        load_hyperparameters("tiny", toml(tmp_path, content))


@pytest.mark.parametrize("number", ["nan", "inf", "-inf"])
def test_non_finite_learning_rates_are_refused(tmp_path: Path, number: str) -> None:
    with pytest.raises(ConfigError, match=r"has 1 error: classifier\.learning_rate"):
        load_hyperparameters("tiny", toml(tmp_path, f"[classifier]\nlearning_rate = {number}\n"))


@pytest.mark.parametrize(
    "key", ["max_gradient_norm", "activation_regularization", "temporal_activation_regularization"]
)
def test_regularization_weights_and_limits_are_not_nan(tmp_path: Path, key: str) -> None:
    with pytest.raises(ConfigError, match=rf"has 1 error: classifier\.{key}"):
        load_hyperparameters("tiny", toml(tmp_path, f"[classifier]\n{key} = nan\n"))


@pytest.mark.parametrize("content", ["[encoder", "epochs: 3", "a = 1\na = 2"])
def test_invalid_toml_is_reported_with_its_line(tmp_path: Path, content: str) -> None:
    with pytest.raises(ConfigError, match=r"c\.toml is not valid TOML: .* \(at (line \d|end of document)"):
        load_hyperparameters("tiny", toml(tmp_path, content))


def test_bytes_that_are_not_utf8_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_bytes(b"# na\xefve\n")
    with pytest.raises(ConfigError, match=r"c\.toml is not valid TOML: 'utf-8' codec can't decode"):
        load_hyperparameters("tiny", path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"missing\.toml can't be read: No such file or directory$"):
        load_hyperparameters("tiny", tmp_path / "missing.toml")
    with pytest.raises(ConfigError, match=r"can't be read: Is a directory$"):
        load_hyperparameters("tiny", tmp_path)


def test_a_dict_is_read_like_a_file() -> None:
    """A8: the sections of a file as a dict, with the same errors."""
    config = {"classifier": {"epochs": 2, "class_weights": {1: 0.5, "x": 1}}, "encoder": {"layers": 1}}
    read = load_hyperparameters("tiny", config)
    assert (read.classifier.epochs, read.encoder.layers) == (2, 1)
    assert read.classifier.class_weights == {"1": 0.5, "x": 1.0}
    assert load_hyperparameters("tiny", {"classifier": {"class_weights": {2: 3}}}).classifier.class_weights == {"2": 3}
    with pytest.raises(ConfigError, match=r"^config has 1 error: encoder\.hiden_size: unknown key, did you mean"):
        load_hyperparameters("tiny", {"encoder": {"hiden_size": 5}})
    with pytest.raises(ConfigError, match=r"^config has 1 error: 3: unknown key"):
        load_hyperparameters("tiny", {3: {"x": 1}})  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[class_weights]\nspam = 2", "class_weights is not a section: move it into [classifier]"),
        ("[classifier.class_weights]\nspam = -1", "expected labels with numbers above 0, found 'spam' = -1"),
        ('[classifier.class_weights]\nspam = "2"', "expected labels with numbers above 0, found 'spam' = '2'"),
        ("[classifier.class_weights]\nspam = inf", "expected labels with numbers above 0, found 'spam' = inf"),
        ("[classifier]\nclass_weights = [1, 2]", "expected none, balanced or a table of weights by label"),
        ('[classifier]\nclass_weights = "Balanced"', "expected none, balanced or a table of weights by label"),
    ],
)
def test_wrong_class_weights_are_refused_with_the_way_on(tmp_path: Path, content: str, message: str) -> None:
    """A7: the table, its place, its keys and its values."""
    with pytest.raises(ConfigError) as caught:
        load_hyperparameters("tiny", toml(tmp_path, content))
    assert message in str(caught.value)
