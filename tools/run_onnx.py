"""Run a model exported by `bothways export-onnx` with only onnxruntime and tokenizers.

Run: python run_onnx.py FILE.onnx < TEXTS. Each line of standard input is a text. For a model with several text columns,
each line has one field per column, separated by tabs.
"""

import base64
import html
import itertools
import json
import math
import os
import re
import sys
import zlib

import numpy as np
from tokenizers import Tokenizer, models, normalizers

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read when onnxruntime is imported
import onnxruntime

NONCHARACTERS = "".join(chr(plane << 16 | last) for plane in range(17) for last in (0xFFFE, 0xFFFF))
INVISIBLE = re.compile(f"[\\x00-\\x1f\\x7f-\\x9f\\ufeff\\ufdd0-\\ufdef{NONCHARACTERS}]")


class TextToIds:
    """Cleans and tokenizes a text in the same way as the bundle."""

    def __init__(self, tokenizer: str) -> None:
        document = json.loads(tokenizer)
        self.control: list[str] = document["control_tokens"]
        self.first_byte = len(self.control) + len(document["pieces"])
        self.has_bytes = "byte_fallback" in document  # 256 tokens behind the pieces, for characters without a piece
        self.field_token = self.first_byte + 256 * self.has_bytes  # if the model has several text columns
        self.unigram = Tokenizer(models.Unigram([(" ", 0.0), *map(tuple, document["pieces"])], unk_id=0))

    def special_token(self, name: str, count: int = 0) -> int:
        """Return the id of a special token. Tokens for repetitions come in four counts: 3, 4, 5 and 10 or more."""
        return self.control.index(f"{name}-{max(s for s in (3, 4, 5, 10) if count >= s)}" if count else name)

    def __call__(self, *fields: str) -> list[int]:
        """Return the token ids of a text as written, from left to right. Most models have one field per text."""
        ids = [self.special_token("xxbos")]
        for number, field in enumerate(fields):
            ids += [self.field_token, *self.words(field)] if number else self.words(field)
        return ids

    def words(self, text: str) -> list[int]:
        """Return the token ids of one field, without the start token."""
        text = re.sub(r"&#[0-9]{100,};?", "\ufffd", re.sub(r"(?i)<br\s{0,3}/?>", "\n", text))
        text = normalizers.NFC().normalize_str(INVISIBLE.sub(" ", html.unescape(text)).replace("▁", "_"))
        ids = []
        for word, run in itertools.groupby(re.findall(r"\S{1,256}", text), str.lower):
            chunks = list(run)
            if len(chunks) >= 3:
                ids.append(self.special_token("xxwrep", len(chunks)))
            for chunk in chunks[: 1 if len(chunks) >= 3 else 2]:
                letters = [letter for letter in chunk if letter.isupper() or letter.islower()]
                if len(letters) > 1 and letters[0].isupper():
                    ids.append(self.special_token("xxup" if all(map(str.isupper, letters)) else "xxmaj"))
                if longest := max((len(found[0]) for found in re.finditer(r"([^\s\d])\1{2,}", word)), default=0):
                    ids.append(self.special_token("xxrep", longest))
                marked = "▁" + re.sub(r"([^\s\d])\1{2,}", r"\1", word)
                pieces = self.unigram.encode(marked)
                for piece, (start, end) in zip(pieces.ids, pieces.offsets, strict=True):
                    if piece:
                        ids.append(piece + len(self.control) - 1)
                    elif self.has_bytes:
                        ids += [self.first_byte + byte for byte in marked[start:end].encode()]
                    else:
                        ids.append(0)
        return ids


class TextToNgrams:
    """Finds the n-grams of a text that the bundle's linear member knows, and the TF-IDF value of each."""

    def __init__(self, linear: str) -> None:
        document = json.loads(linear)
        self.words: int = document["words"]
        hashes = np.frombuffer(base64.b64decode(document["hashes"]), "<u4")
        self.idf = np.frombuffer(base64.b64decode(document["idf"]), "<f2").astype(np.float64)
        self.place = {(bool(place >= self.words), int(number)): place for place, number in enumerate(hashes)}

    def __call__(self, *fields: str) -> tuple[list[int], list[float]]:
        """Return the places of the n-grams and their values. Most models have one field per text."""
        counts: dict[int, int] = {}
        for is_characters, ngram in itertools.chain.from_iterable(map(self.ngrams, fields)):
            place = self.place.get((is_characters, zlib.crc32(ngram.encode("utf-8", "surrogatepass"))))
            if place is not None:
                counts[place] = counts.get(place, 0) + 1
        values = {place: (1 + math.log(count)) * self.idf[place] for place, count in sorted(counts.items())}
        for is_characters in (False, True):  # each kind is normalized on its own
            places = [place for place in values if (place >= self.words) == is_characters]
            norm = math.sqrt(sum(values[place] ** 2 for place in places))
            values |= {place: values[place] / norm for place in places}
        return list(values), list(values.values())

    def ngrams(self, field: str) -> list[tuple[bool, str]]:
        """Return the n-grams of one field, of words (False) and of characters (True)."""
        parts = [
            part.lower() for string in re.split(r"\s", field) for part in re.findall(r".{1,100}", string, re.DOTALL)
        ]
        words = [word for part in parts for word in re.findall(r"\w+|[^\w\s]", part)]
        found = [(False, ngram) for ngram in (*words, *map(" ".join, itertools.pairwise(words)))]
        for part in parts:
            padded = f" {part} "
            found += [(True, padded[at : at + size]) for size in range(2, 6) for at in range(len(padded) - size + 1)]
        return found


if __name__ == "__main__":
    session = onnxruntime.InferenceSession(sys.argv[1])
    metadata = session.get_modelmeta().custom_metadata_map
    to_ids, labels = TextToIds(metadata["tokenizer"]), json.loads(metadata["labels"])
    columns = json.loads(metadata.get("text_columns", "[]"))
    to_ngrams = TextToNgrams(metadata["linear"]) if "linear" in metadata else None
    for line in sys.stdin:
        fields = line.rstrip("\n").split("\t") if len(columns) > 1 else [line]
        if len(columns) > 1 and len(fields) != len(columns):
            sys.exit(f"a line has {len(fields)} fields, expected {', '.join(columns)} separated by tabs")
        ids = np.array([to_ids(*fields)])
        inputs = {"ids": ids, "lengths": np.array([ids.shape[1]])}
        if to_ngrams is not None:
            ngrams, values = to_ngrams(*fields)
            inputs |= {"ngrams": np.array([ngrams], np.int64), "ngram_values": np.array([values], np.float32)}
        (row,) = session.run(["ensemble"], inputs)[0]
        print(json.dumps(dict(zip(labels, row.tolist(), strict=True)), ensure_ascii=False))
