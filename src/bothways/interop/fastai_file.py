"""Open whatever a fastai model lies in: an export, saved weights with their words, a folder, an archive, a known name.

In: a path or a name. Out: a ``ForeignModel``: weights by our names and all that its texts need. Nothing is executed.
"""

from __future__ import annotations

import hashlib
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import ValidationError

from bothways import strict_json
from bothways.bundle.manifest import FastaiPooling, Kind
from bothways.errors import ConfigError, ForeignModelError
from bothways.interop.download import PUBLISHED, fetch_published
from bothways.interop.fastai_learner import LearnerFacts, labels_of, learner_facts, vocabulary_of, without_fillers
from bothways.interop.fastai_weights import FoundWeights, find_weights
from bothways.interop.spacy_tables import tables_from_spacy
from bothways.interop.torch_file import read_foreign_file
from bothways.text.fastai_cleaning import CONTROL_TOKENS, FASTAI_V2
from bothways.text.reading import Direction
from bothways.text.word_tokenizer import WordTokenizerDocument

_V1_POOLING = FastaiPooling(window_tokens=70, tail_tokens=1399, last_skips_padding=False)
_V2_POOLING = FastaiPooling(window_tokens=72, tail_tokens=1440, last_skips_padding=True)
"""What fastai pools by default; saved weights don't say otherwise."""

_ARCHIVES = (".tgz", ".tar.gz", ".tar")
_LARGEST_UNPACKED_BYTES = 4 * 1024**3
_MOST_MEMBERS = 1000


@dataclass(frozen=True, eq=False)
class ForeignModel:
    """One model of fastai, read.

    Attributes:
        name: The file as it was given, for messages.
        file_name: Its own name, without folders.
        sha256: Of the file.
        library: What wrote it, as far as it can be told.
        kind: A classifier, or a language model (an encoder is one without a decoder).
        found: Its weights.
        pooling: What of a text it pools; None for a language model.
        labels: In the order of the classes; empty for a language model.
        tokenizer: Rules and vocabulary.
        direction: The way it reads, if its file says so.
        text_column: Where its learner took texts from.
        label_column: Where its learner took labels from.
        remarks: What a person should know.
    """

    name: str
    file_name: str
    sha256: str
    library: str
    kind: Kind
    found: FoundWeights
    pooling: FastaiPooling | None
    labels: list[str]
    tokenizer: WordTokenizerDocument
    direction: Direction | None
    text_column: str | None
    label_column: str | None
    remarks: list[str]


def open_model(
    source: str,
    *,
    vocabulary: str | None = None,
    labels: Sequence[str] = (),
    language: str | None = None,
    needs_labels: bool = True,
) -> ForeignModel:
    """Return the model at a path, or one of the published ones by its name.

    Args:
        source: An export of fastai v1 or v2; weights that ``save`` or ``save_encoder`` wrote; a folder or archive with
            one ``.pth`` and one ``.pkl``, as the published models are; or ``wt103-fwd`` or ``wt103-bwd``, which are
            downloaded once.
        vocabulary: The file of its words (pickle or JSON), for weights that lie alone.
        labels: In the order of the classes, for weights of a classifier.
        language: spaCy's code of the language, where the file does not say; English otherwise.
        needs_labels: Whether a classifier whose labels are unknown is refused.

    Raises:
        ForeignModelError: It is no such model, damaged, or of a kind that is not supported.
        ConfigError: The vocabulary or the labels are missing, or don't fit.
        DependencyMissing: spaCy is needed for its tokenizer and not installed.
    """
    path = Path(source)
    if not path.exists() and source in PUBLISHED:
        path = fetch_published(source)
    given = _Given(vocabulary, tuple(labels), language, needs_labels)
    if path.is_dir():
        return _from_folder(path, source, given)
    if path.name.endswith(_ARCHIVES):
        with tempfile.TemporaryDirectory() as folder:
            _extract(path, Path(folder))
            return _from_folder(Path(folder), source, given)
    return _from_file(path, source, path.name, given)


@dataclass(frozen=True)
class _Given:
    """What a person says of a model whose file does not."""

    vocabulary: str | None
    labels: tuple[str, ...]
    language: str | None
    needs_labels: bool


def _from_folder(folder: Path, name: str, given: _Given) -> ForeignModel:
    weights, words = (sorted(folder.rglob(f"*{suffix}")) for suffix in (".pth", ".pkl"))
    if len(weights) != 1 or len(words) > 1:
        raise ForeignModelError(
            f"{name} holds {len(weights)} .pth and {len(words)} .pkl files, expected one of each: name the file itself"
        )
    vocabulary = given.vocabulary or (str(words[0]) if words else None)
    inside = weights[0].name
    file_name = f"{Path(name).name}/{inside}"
    return _from_file(weights[0], f"{name}/{inside}", file_name, replace(given, vocabulary=vocabulary))


def _extract(archive: Path, folder: Path) -> None:
    """Write an archive's weights and words to a folder, under their bare names; nothing else leaves the archive."""
    unpacked_bytes = 0
    try:
        with tarfile.open(archive) as opened:
            for number, member in enumerate(opened):
                if number >= _MOST_MEMBERS:
                    raise ForeignModelError(f"{archive} has more than {_MOST_MEMBERS} members, expected two")
                name = Path(member.name).name
                if not member.isreg() or not name.endswith((".pth", ".pkl")) or name.startswith("."):
                    continue
                content = opened.extractfile(member)
                unpacked_bytes += member.size
                if content is None or unpacked_bytes > _LARGEST_UNPACKED_BYTES:
                    raise ForeignModelError(f"{archive} unpacks to {unpacked_bytes} bytes, expected at most 4 GiB")
                with content, (folder / name).open("xb") as out:
                    while part := content.read(1 << 20):
                        out.write(part)
    except FileExistsError:
        raise ForeignModelError(f"{archive} holds two files of one name") from None
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ForeignModelError(f"{archive} can't be read as an archive: {error}") from None


def _from_file(path: Path, name: str, file_name: str, given: _Given) -> ForeignModel:
    facts = learner_facts(read_foreign_file(path), name)
    found = find_weights(facts.state, name)
    words, labels = facts.vocabulary, facts.labels or list(given.labels)
    if words is None:
        words, labels_beside = _read_vocabulary(_vocabulary_path(path, name, given.vocabulary))
        labels = labels or labels_beside
    elif given.vocabulary is not None:
        raise ConfigError(f"{name} holds its own vocabulary: leave --vocabulary away")
    if len(words) != found.architecture.vocabulary_size:
        raise ConfigError(
            f"{name}: the vocabulary has {len(words)} words, but the embedding {found.architecture.vocabulary_size} "
            "rows: this is the vocabulary of another model"
        )
    is_classifier = found.widths_head is not None
    return ForeignModel(
        name=name,
        file_name=file_name,
        sha256=_sha256(path),
        library=facts.library,
        kind=Kind.CLASSIFIER if is_classifier else Kind.LANGUAGE_MODEL,
        found=found,
        pooling=(facts.pooling or (_V1_POOLING if found.is_version_1 else _V2_POOLING)) if is_classifier else None,
        labels=_labels(labels, found.classes, name) if is_classifier and given.needs_labels else [],
        tokenizer=_tokenizer(facts, words, name, given.language),
        direction=facts.direction,
        text_column=facts.text_column,
        label_column=facts.label_column,
        remarks=facts.remarks,
    )


def _vocabulary_path(path: Path, name: str, given: str | None) -> Path:
    if given is not None:
        return Path(given)
    beside = [p for p in sorted(path.parent.glob("*.pkl")) if p != path]
    if len(beside) != 1:
        hint = f"{len(beside)} .pkl files lie beside it" if beside else "no .pkl file lies beside it"
        raise ConfigError(f"{name} holds weights without words, and {hint}: name the vocabulary with --vocabulary")
    return beside[0]


def _read_vocabulary(path: Path) -> tuple[list[str], list[str]]:
    """Return the words of a vocabulary, and the labels that fastai v2 keeps beside them, if any."""
    if path.suffix == ".json":
        try:
            value = strict_json.parse(path.read_bytes())
        except (OSError, ValueError) as error:
            raise ForeignModelError(f"{path} can't be read as a vocabulary: {error}") from None
    else:
        value = read_foreign_file(path)
    return vocabulary_of(value, str(path)), labels_of(value)


def _labels(labels: Sequence[str], classes: int, name: str) -> list[str]:
    if not labels:
        raise ConfigError(
            f"{name} has {classes} classes and does not name them: give their labels in order, --label A ..."
        )
    if len(labels) != classes:
        raise ConfigError(f"{name} has {classes} classes, but {len(labels)} labels were found: {', '.join(labels)}")
    if len(set(labels)) != len(labels):
        raise ForeignModelError(f"{name}: a label occurs twice among {', '.join(labels)}")
    if classes < 2:
        raise ForeignModelError(f"{name} has {classes} class, expected two or more: nothing to tell apart")
    return list(labels)


def _tokenizer(facts: LearnerFacts, words: list[str], name: str, language: str | None) -> WordTokenizerDocument:
    cleaning = facts.cleaning or _cleaning_of(words, name)
    if facts.cleaning is None and cleaning == FASTAI_V2:
        words = without_fillers(words)
    spoken = facts.language or language or "en"
    if language is not None and spoken != language:
        raise ConfigError(f"{name} was trained on the language {spoken!r}: leave --language away")
    tables, source = facts.tables, "spaCy, as exported with the model"
    if tables is None:
        tables, version = tables_from_spacy(spoken, facts.control_tokens or CONTROL_TOKENS[cleaning])
        source = f"spaCy {version}"
    try:
        return WordTokenizerDocument.model_validate(
            {
                "cleaning": cleaning,
                "marks_field": facts.marks_field,
                "ends": facts.ends,
                "language": spoken,
                "source": source,
                "tables": tables,
                "vocabulary": words,
            }
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise ForeignModelError(f"{name}: {'.'.join(map(str, first['loc']))[:80]}: {first['msg']}") from None


def _cleaning_of(words: list[str], name: str) -> str:
    """Tell fastai's version by the order of its control tokens, which is not the same in both."""
    for cleaning, control in CONTROL_TOKENS.items():
        if tuple(words[: len(control)]) == control:
            return cleaning
    older = [word for word in CONTROL_TOKENS["fastai-v1"] if word in words[:20]]  # files from before xxeos, say
    if words[: len(older)] == older and len(older) > 4:
        return "fastai-v1"
    raise ForeignModelError(
        f"{name}: its vocabulary begins with {', '.join(words[:9])}, which is neither fastai v1's order nor v2's: with "
        "control tokens of its own it can't be imported"
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
