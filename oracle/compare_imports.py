"""Import every generated learner and compare it with the real fastai: python oracle/compare_imports.py FOLDER.

FOLDER holds what `generate.py` made. Prints a Markdown table: per kind the number of imports, and how many are exact
(the same ids and every probability within 1e-5 of `learn.predict`), refused, or different. An import is counted as "not
in the file" if it differs by something that the file does not show and the user did not say. Then the imports that are
not as expected. Exits with 1 if one is different, if one fails in another way, or if one is refused that must be exact.
"""

from __future__ import annotations

import argparse
import fnmatch
import functools
import inspect
import json
import os
import re
import shutil
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import bothways
from bothways.bundle.manifest import Kind
from bothways.bundle.read import read_bundle
from bothways.errors import ConfigError, DirectionError, ForeignModelError
from bothways.interop import fastai_import
from bothways.interop.reference import hidden_states
from bothways.runtime.language_model import LanguageModel
from bothways.text import word_rules
from bothways.text.reading import Direction, SpecialTokenPlacement, read
from bothways.text.word_patterns import analyzed

LARGEST_DIFFERENCE = 1e-5
ORDER = ("exact", "refused", "not in the file", "different")


@dataclass(frozen=True)
class Outcome:
    """The result of one import.

    Attributes:
        learner: Name of the learner.
        kind: Row of the table.
        finding: E1 to E6, or ``plain``.
        what: A description of the learner.
        options: Options of the import.
        expect: ``exact``, ``refused``, ``either``, or ``unknowable`` where the file does not show the difference.
        found: ``exact``, ``refused``, ``different`` or ``failed``.
        message: Message of a refusal, or what differs.
        is_named: Whether a refusal names its cause.
    """

    learner: str
    kind: str
    finding: str
    what: str
    options: dict[str, Any]
    expect: str
    found: str
    message: str
    is_named: bool = True

    @property
    def is_wrong(self) -> bool:
        """Whether the import breaks the promise: right or refused."""
        is_different = self.found == "different" and self.expect != "unknowable"
        return is_different or self.found == "failed" or (self.expect == "exact" and self.found == "refused")

    @property
    def column(self) -> str:
        """The column of the table that counts this import."""
        if self.found == "different" and self.expect == "unknowable":
            return "not in the file"
        return "different" if self.found == "failed" else self.found

    @property
    def is_remarkable(self) -> bool:
        """Whether the import is right but not as the table expects it."""
        return not self.is_wrong and (
            (self.expect == "refused" and self.found == "exact") or (self.found == "refused" and not self.is_named)
        )


class MissingOptionError(Exception):
    """`import_fastai` does not have an option that the table uses."""


def main() -> None:
    """Compare, print the table, and exit with 1 if an import is wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("folder", type=Path, help="folder that generate.py filled")
    parser.add_argument("--only", nargs="*", default=[], metavar="PATTERN", help="learners; all by default")
    parser.add_argument("--messages", action="store_true", help="print the message of every refusal")
    parser.add_argument("--processes", type=int, default=1, help="imports at a time")
    parser.add_argument("--verify", action="store_true", help="let each import verify its bundle in a fresh process")
    parser.add_argument("--json", type=Path, help="also write the outcomes to this file")
    parser.add_argument("--quiet", action="store_true", help="do not print each outcome")
    arguments = parser.parse_args()
    make_faster()
    if not arguments.verify:  # the comparison does what the verification does, and more
        fastai_import.verify_in_fresh_process = lambda *_: None  # type: ignore[attr-defined]
    outcomes = []
    for outcome in compare_all(arguments.folder, arguments.only, arguments.processes):
        outcomes.append(outcome)
        if not arguments.quiet:
            print(f"{outcome.learner}: {outcome.found} {outcome.message}"[:200], file=sys.stderr, flush=True)
    print("\n".join(report(outcomes, messages=arguments.messages)))
    if arguments.json:
        arguments.json.write_text(json.dumps([vars(outcome) for outcome in outcomes], indent=1), encoding="utf-8")
    sys.exit(1 if not outcomes or any(outcome.is_wrong for outcome in outcomes) else 0)


def make_faster() -> None:
    """Keep what bothways computes of spaCy's patterns: it is the same for all learners of a language."""
    for name in ("check_cost", "start_match"):
        setattr(word_rules, name, functools.cache(getattr(word_rules, name)))
    known: dict[object, Any] = {}

    def kept(rule: Any) -> Any:
        key = None if rule is None else (rule.pattern, rule.flags)
        if key not in known:
            known[key] = analyzed(rule)
        return known[key]

    vars(word_rules)["analyzed"] = kept


def compare_all(folder: Path, patterns: Sequence[str] = (), processes: int = 1) -> Iterator[Outcome]:
    """Yield the outcomes of all learners of a folder whose names match."""
    names = sorted(path.parent.name for path in folder.glob("[!.]*/case.json"))
    wanted = [name for name in names if not patterns or any(fnmatch.fnmatch(name, each) for each in patterns)]
    folders = [folder / name for name in wanted]
    if processes == 1:
        yield from (outcome for each in folders for outcome in compare(each))
        return
    with ProcessPoolExecutor(processes) as pool:  # forked, so that they do not verify either
        yield from (outcome for found in pool.map(compare, folders) for outcome in found)


def compare(folder: Path) -> list[Outcome]:
    """Return the outcome of each import of a learner."""
    case = json.loads((folder / "case.json").read_bytes())
    lines = [json.loads(line) for line in (folder / "expected.jsonl").read_text(encoding="ascii").splitlines()]
    return [outcome(folder, case, lines, each) for each in case["imports"]]


def outcome(folder: Path, case: dict[str, Any], lines: list[dict[str, Any]], way: dict[str, Any]) -> Outcome:
    """Import a learner in one way, and compare."""
    made = functools.partial(
        Outcome, folder.name, case["kind"], case["finding"], case["what"], way["options"], way["expect"]
    )
    scratch = Path(tempfile.mkdtemp(prefix="compare-"))
    try:
        imported(folder, case, way, scratch / "out")
        differences = list(found_differences(case, lines, way, scratch / "out"))
    except (ForeignModelError, ConfigError) as error:
        return made("refused", str(error), re.search(way["cause"], str(error), re.IGNORECASE) is not None)
    except MissingOptionError as error:
        return made("refused", str(error), is_named=False)
    except DirectionError as error:
        return made("failed", f"DirectionError: {error}")
    except Exception:  # noqa: BLE001  whatever it is, the user would see a traceback
        return made("failed", traceback.format_exc(limit=-3))
    finally:
        shutil.rmtree(scratch)
    return made("different", "; ".join(differences)) if differences else made("exact", "")


def imported(folder: Path, case: dict[str, Any], way: dict[str, Any], out: Path) -> None:
    """Import a learner as a user would: with the direction only if neither the file nor the weights show it."""
    files = case["files"]
    options: dict[str, Any] = {}
    if "vocabulary" in files:
        options["vocabulary"] = [folder / files["vocabulary"]]
    if "weights" in files and case["task"] == "single-label":
        options |= {"task": "single-label", "labels": [str(label) for label in case["labels"]]}
    options |= {name: with_folder(value, folder) for name, value in way["options"].items()}
    options = {name: value for name, value in options.items() if value is not None}
    if missing := options.keys() - inspect.signature(bothways.import_fastai).parameters.keys():
        raise MissingOptionError(f"import_fastai has no option {', '.join(sorted(missing))} yet")
    source = folder / next(files[name] for name in ("export", "weights", "archive") if name in files)
    try:
        bothways.import_fastai(source, out=out, **options)
    except DirectionError as error:
        if "its weights do not show it" not in str(error):  # they show the wrong direction
            raise
        bothways.import_fastai(source, out=out, direction=case["direction"], **options)


def with_folder(value: Any, folder: Path) -> Any:
    """Return the value of an option, with the path of a file of the learner instead of ``file:NAME``."""
    if isinstance(value, list):
        return [with_folder(each, folder) for each in value]
    return folder / value.removeprefix("file:") if isinstance(value, str) and value.startswith("file:") else value


def found_differences(
    case: dict[str, Any], lines: list[dict[str, Any]], way: dict[str, Any], out: Path
) -> Iterator[str]:
    """Yield what an import does in another way than fastai."""
    rows = [{**line, "text": line.get("joined", line["text"])} for line in lines if "error" not in line]
    if case["task"] in ("language-model", "encoder"):
        yield from differences_of_pack(case, rows, out)
        return
    model = bothways.load(out)
    yield from other_ids(model.tokenizer, rows)
    theirs = np.array([as_scores(row["scores"], way["scores"]) for row in rows])
    ours = model.scores_by_direction([row["text"] for row in rows])["ensemble"]
    if ours.shape != theirs.shape:
        yield f"{ours.shape[1]} scores, fastai has {theirs.shape[1]}"
        return
    if (
        case["labels"]
        and list(model.labels) != list(case["labels"])
        and list(model.labels) != list(map(str, case["labels"]))
    ):
        yield f"labels {list(model.labels)}, fastai has {case['labels']}"
    allowed = LARGEST_DIFFERENCE * np.maximum(1, np.abs(theirs))
    if (wrong := np.abs(ours - theirs) > allowed).any() or not np.isfinite(ours).all():
        number = int(np.argmax(np.abs(ours - theirs).max(axis=1)))
        yield (
            f"{int(wrong.any(axis=1).sum())} of {len(rows)} texts, largest difference "
            f"{np.abs(ours - theirs).max():.2g} (text {rows[number]['text'][:30]!r})"
        )
        return
    if way["scores"] == "as predicted":  # fastai decides by raw scores in another way, which means nothing
        yield from other_decisions(case, rows, ours, model)


def other_decisions(case: dict[str, Any], rows: list[dict[str, Any]], ours: Any, model: Any) -> Iterator[str]:
    """Yield labels that differ although the scores agree. Ties and scores at a threshold are left out."""
    decided = model.predict([row["text"] for row in rows]).tolist()
    for row, label, scores in zip(rows, decided, ours, strict=True):
        if case["task"] == "single-label":
            best, second = np.sort(scores)[::-1][:2] if len(scores) > 1 else (1, 0)
            if best - second > 2 * LARGEST_DIFFERENCE and str(row["label"]) != str(label):
                yield f"label {label}, fastai has {row['label']} ({row['text'][:30]!r})"
                return
        elif case["task"] == "multi-label":
            theirs = {str(each) for each in row["label"]}
            if {str(each) for each in label} != theirs:
                yield f"labels {label}, fastai has {sorted(theirs)} ({row['text'][:30]!r})"
                return


def as_scores(scores: list[float], how: str) -> Any:
    """Return the scores of `learn.predict` as the import has them."""
    found = np.array(scores, dtype=np.float64)
    if how == "softmax":
        found = np.exp(found - found.max())
        return found / found.sum()
    return 1 / (1 + np.exp(-found)) if how == "sigmoid" else found


def other_ids(tokenizer: Any, rows: list[dict[str, Any]]) -> Iterator[str]:
    """Yield whether ids differ."""
    wrong = []
    for row in rows:
        if "ids" in row and tokenizer.tokenize(row["text"]).ids.tolist() != row["ids"]:
            wrong.append(row["text"])
    if wrong:
        yield f"ids of {len(wrong)} of {len(rows)} texts ({wrong[0][:30]!r})"


def differences_of_pack(case: dict[str, Any], rows: list[dict[str, Any]], out: Path) -> Iterator[str]:
    """Yield what an imported language model or encoder computes in another way than fastai."""
    pack = read_bundle(out, Kind.LANGUAGE_MODEL)
    direction = Direction(case["direction"])
    yield from other_ids(pack.tokenizer, rows)
    if case["task"] == "encoder":
        ids = [read(pack.tokenizer.tokenize(row["text"]), direction, SpecialTokenPlacement.AS_WRITTEN) for row in rows]
        architecture = pack.manifest.members[0].architecture
        states = hidden_states(architecture, pack.weights[direction], ids)
        largest = 0.0
        for row, found in zip(rows, states, strict=True):
            largest = max(largest, np.abs(found[-1] - row["last_state"]).max())
            largest = max(largest, np.abs(found.mean(axis=0) - row["mean_state"]).max())
    else:
        model = LanguageModel(pack)
        pairs = [(model.loss(row["text"], direction), row["loss"]) for row in rows if row["loss"] is not None]
        largest = max(abs(ours - theirs) for ours, theirs in pairs)
    if not largest <= LARGEST_DIFFERENCE:
        yield f"largest difference {largest:.2g}"


def report(outcomes: Sequence[Outcome], *, messages: bool) -> Iterator[str]:
    """Yield the lines of the report, in Markdown."""
    yield "| kind | count | " + " | ".join(ORDER) + " |"
    yield "|---" * (len(ORDER) + 2) + "|"
    kinds = list(dict.fromkeys((outcome.learner[:2], outcome.kind) for outcome in outcomes))
    for version, kind in kinds:
        yield table_row(f"{version} {kind}", [o for o in outcomes if (o.learner[:2], o.kind) == (version, kind)])
    yield table_row("all", outcomes)
    groups = {
        "Wrong: different, failed, or refused although it must be exact": [o for o in outcomes if o.is_wrong],
        "Right, but not as expected": [o for o in outcomes if o.is_remarkable],
    }
    if messages:
        groups["Refused"] = [o for o in outcomes if o.found == "refused" and not (o.is_wrong or o.is_remarkable)]
    for title, found in groups.items():
        if found:
            yield f"\n{title} ({len(found)}):\n"
            for o in found:
                options = "" if not o.options else f" with {json.dumps(o.options)}"
                expected = f"{o.finding}, expected {o.expect}"
                yield f"- `{o.learner}`{options} ({expected}): **{o.found}**. {o.what} {o.message}"


def table_row(title: str, outcomes: Sequence[Outcome]) -> str:
    """Return a row of the table. An import that failed counts as different."""
    counts = Counter(outcome.column for outcome in outcomes)
    return f"| {title} | {len(outcomes)} | " + " | ".join(str(counts[name]) for name in ORDER) + " |"


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
