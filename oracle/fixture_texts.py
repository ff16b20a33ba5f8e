"""Provide the texts and folders of the fixtures: texts to train on, texts to predict, and folders of cases.

What flows in: a repository and, where BOTHWAYS_DATA names the folder, real data sets. What flows out: rows to train
on, texts to predict, and `case.json` with `expected.jsonl`. This module does not know fastai: both versions use it.
"""

from __future__ import annotations

import contextlib
import fnmatch
import importlib.util
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

ROOT = Path(__file__).resolve().parents[1]
NASTY_FILE = ROOT / "tests" / "parity" / "nasty_texts.py"

# Around fastai 2's windows (72) and longest pooled part (1440), and fastai 1's (70 and 1400); all counted with xxbos.
LENGTHS = (2, 3, 69, 70, 71, 72, 73, 143, 144, 145, 500, 550, 551, 1368, 1369, 1370, 1371, 1372, 1373, 1399, 1400, 1401)
LENGTHS += (1439, 1440, 1441, 1442, 1470, 1471, 1511, 1512, 1513, 3000)
FEW_LENGTHS = (71, 73, 501, 1373, 1401, 1441, 1512)
OWN_NASTY_TEXTS = (
    "",
    " ",
    "\n",
    "a",
    "I",
    "Hello",
    "qwxyz zzyzx blorft",
    "WHY WON'T YOU ANSWER ME",
    "Soooooo slooooow!!!!",
    "very very very very very bad, bad bad bad",
    "wait wait wait, no no no no. ha ha ha ha ha ",
    '<br /><br />It&#39;s &amp; &quot;that&quot;&nbsp;#39; amp; \\n \\" <unk>',
    "U.S. NASA-led (Hello) \"World\" iPhone IPhone e.g. don't can't I'll",
    "https://example.com/a/b?c=d#e #tag @user me@example.com :-) ;) <3",
    "xxpad xxbos xxunk xxmaj xxfld 1 xxfake",
    "İstanbul STRASSE straße ǅ Ǆ ß ﬁ Σίσυφος",
    "日本語のテキスト 中文 한국어 ไทย עברית العربية",
    "👍👍👍👍 👩‍👩‍👧 e\u0301 \u200b\ufeff\u00a0\u2028x",
    "1,000.50 $5 5$ 10kg 11pm 3/4 1-2 ...  ....",
    "tab\there  two   spaces\r\nnew line\n\n\nthree",
    "111 1111 11111 aaa aaaa a a a a",
    " . ",
    "\x00\x07control\x1f",
)


def has_real_data() -> bool:
    """Return whether BOTHWAYS_DATA names a folder."""
    return bool(os.environ.get("BOTHWAYS_DATA")) and Path(os.environ["BOTHWAYS_DATA"]).is_dir()


def training_rows(name: str, most: int = 1000) -> pd.DataFrame:
    """Return labeled texts to train on.

    Args:
        name: ``demo`` (the repository's messages), or ``imdb``, ``trec6``, ``sms``, ``germeval`` out of BOTHWAYS_DATA.
        most: How many rows at most; the first ones.

    Returns:
        Columns text and label.
    """
    if name == "demo":
        rows = pd.read_csv(ROOT / "demo" / "messages.csv")
    else:
        folder = Path(os.environ["BOTHWAYS_DATA"])
        if name == "imdb":
            rows = pd.read_parquet(folder / "imdb" / "train.parquet")
        else:
            files = {"trec6": "trec6/train.csv", "sms": "sms_spam/sms.csv", "germeval": "germeval2018/train.csv"}
            rows = pd.read_csv(folder / files[name], keep_default_na=False)
    return rows[["text", "label"]].head(most).reset_index(drop=True)


def nasty_texts() -> list[str]:
    """Return edge cases for tokenizers: the list of the parity tests if it exists, otherwise a short one."""
    if not NASTY_FILE.exists():
        return list(OWN_NASTY_TEXTS)
    specification = importlib.util.spec_from_file_location("nasty_texts", NASTY_FILE)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    texts = module.NASTY_TEXTS
    return list(dict.fromkeys([*OWN_NASTY_TEXTS, *(texts.values() if isinstance(texts, dict) else texts)]))


def text_of_length(tokens: int, rows: pd.DataFrame, count: Callable[[str], int]) -> str:
    """Return a text of exactly `count` tokens, including xxbos, composed of words of the rows.

    Args:
        tokens: Number of tokens, at least 1.
        rows: Rows from which the words are taken.
        count: Returns the number of tokens of a text.
    """
    words = re.findall(r"\b[a-zäöüß]{3,}\b", " ".join(rows["text"].iloc[::-1]))
    words = [word for word, before in zip(words[1:], words, strict=False) if word != before]
    words = (words * (1 + tokens // len(words)))[: tokens - 1]
    while (found := count(" ".join(words))) > tokens:  # "cannot" and its like are two tokens
        words = words[: len(words) - (found - tokens)]
    words += ["the", "parcel"] * ((tokens - found) // 2) + ["today"] * ((tokens - found) % 2)
    assert count(" ".join(words)) == tokens, (tokens, count(" ".join(words)))
    return " ".join(words)


def texts_to_predict(rows: pd.DataFrame, count: Callable[[str], int], *, all_of_them: bool) -> list[str]:
    """Return texts to predict: edge cases, real texts, and texts of exact lengths.

    Args:
        rows: What the model was trained on.
        count: Returns the number of tokens of a text.
        all_of_them: Whether to give all; else a selection.
    """
    nasty, lengths = nasty_texts(), LENGTHS
    real = rows["text"].iloc[:: max(1, len(rows) // 25)].tolist()
    if not all_of_them:
        nasty, real, lengths = [*OWN_NASTY_TEXTS[::3], *nasty[:: max(1, len(nasty) // 8)]], real[:6], FEW_LENGTHS
    exact = [text_of_length(tokens, rows, count) for tokens in lengths]
    return list(dict.fromkeys([*nasty, *real, *exact]))


class Cases:
    """The folder of cases, and the cases to make."""

    def __init__(self, out: Path, names: list[str]) -> None:
        self.out, self.names = out, names

    def wanted(self, *names: str) -> bool:
        """Return whether one of these cases is to be made."""
        return any(not self.names or any(fnmatch.fnmatch(name, wish) for wish in self.names) for name in names)

    def folder(self, name: str) -> Path | None:
        """Return the emptied folder of a case, or None if the case is not to be made."""
        if not self.wanted(name):
            return None
        shutil.rmtree(self.out / name, ignore_errors=True)
        (self.out / name).mkdir(parents=True)
        return self.out / name


def write_case(folder: Path, case: dict[str, Any], texts: list[str], expect: Callable[[str], dict[str, Any]]) -> None:
    """Write `case.json`, and `expected.jsonl` with one line per text.

    Texts that the real package fails on go to `errors.jsonl`.

    Args:
        folder: The case's folder, holding its files already.
        case: What `case.json` says, without the name.
        texts: The texts; none for a case that is to be refused.
        expect: Gives a text's line, without the text.
    """
    for file in case["files"].values():
        assert (folder / file).is_file(), folder / file
    lines, errors = [], []
    for text in texts:
        try:
            lines.append(json.dumps({"text": text, **expect(text)}))
        except (ValueError, AssertionError, IndexError, RuntimeError, TypeError) as error:
            errors.append(json.dumps({"text": text, "error": f"{type(error).__name__}: {error}"[:300]}))
    (folder / "expected.jsonl").write_text("".join(line + "\n" for line in lines), encoding="ascii")
    if errors:
        (folder / "errors.jsonl").write_text("".join(line + "\n" for line in errors), encoding="ascii")
    (folder / "case.json").write_text(json.dumps(case, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    size = sum(path.stat().st_size for path in folder.iterdir())
    print(f"{folder.name}: {len(lines)} texts, {len(errors)} refused, {size / 1e6:.1f} MB", flush=True)


@contextlib.contextmanager
def graphics_card_files() -> Iterator[None]:
    """Make torch.save record `cuda:0` as the location of every storage while the block runs."""
    import torch.serialization

    note = torch.serialization.location_tag
    torch.serialization.location_tag = lambda storage: "cuda:0"
    try:
        yield
    finally:
        torch.serialization.location_tag = note


def directions() -> Iterator[str]:
    """Return the two reading directions."""
    yield "forward"
    yield "backward"
