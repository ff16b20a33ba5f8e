"""Pre-train a pack on English Wikipedia: en-small, which ships with bothways, or another one of the TOML files here.

Run: BOTHWAYS_DATA=... .venv/bin/python packs/english.py en-small --device cuda
An interrupted run resumes. ``en-base`` has the sizes of ULMFiT. ``en-small-qrnn`` has QRNNs of the sizes of en-small,
and continues from its tokenizer, embedding and decoder. The hyperparameters are in the TOML files in this folder. With
``--install`` the finished pack replaces the one in the package. The last line is JSON with the perplexities on the
validation and test sets of WikiText-103. The corpus does not contain these articles.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import sys
from pathlib import Path

import bothways
from bothways.bundle.manifest import Kind
from bothways.bundle.packs import pack_path
from bothways.bundle.read import read_bundle
from bothways.runtime.language_model import LanguageModel
from bothways.training.choices import Size

SIZES: dict[str, Size] = {"en-small": "small", "en-base": "base"}
CONTINUED = {"en-small-qrnn": "en-small"}
"""Packs that continue from another one, with another encoder."""
TEXTS = (
    "English Wikipedia of 2015: 23,523 articles of 200 words and more, 64.6 million words, none of WikiText-103's. "
    "The text is licensed CC BY-SA 3.0 (https://creativecommons.org/licenses/by-sa/3.0/), by the authors of Wikipedia."
)


def main() -> None:
    """Train the pack and compute its perplexities."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("pack", choices=[*SIZES, *CONTINUED], help="pack to train")
    parser.add_argument("--out", type=Path, help="folder of the new pack; PACK.pack by default")
    parser.add_argument("--seed", type=int, default=0, help="random seed; 0 by default")
    parser.add_argument("--device", default="cpu", help="cpu (default) or cuda")
    parser.add_argument(
        "--compute", default="", help="description of the compute used, for the card: tokens, hours, machine"
    )
    parser.add_argument("--install", action="store_true", help="replace the pack in the package")
    arguments = parser.parse_args()
    if "BOTHWAYS_DATA" not in os.environ:
        sys.exit("BOTHWAYS_DATA is not set: set it to the folder of the data sets")
    folder = Path(os.environ["BOTHWAYS_DATA"])
    out = arguments.out or Path(f"{arguments.pack}.pack")
    if not out.exists():
        bothways.pretrain(
            sorted((folder / "enwiki").glob("*.parquet")),
            out=out,
            about=about(arguments.compute),
            size=SIZES.get(arguments.pack),
            continue_from=CONTINUED.get(arguments.pack),
            seed=arguments.seed,
            config=config(arguments.pack),
            device=arguments.device,
        )
    texts = {part: folder / "wikitext103" / f"wiki.{part}.tokens" for part in ("valid", "test")}
    print(json.dumps({part: wikitext_perplexity(out, path.read_text("utf-8")) for part, path in texts.items()}))
    if arguments.install:
        target = pack_path(arguments.pack)
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(out, target)


def config(pack: str) -> Path:
    """Return the path of a pack's hyperparameters."""
    return Path(__file__).with_name(f"{pack.replace('-', '_')}.toml")


def about(compute: str) -> str:
    """Return the description of the texts and the compute for a pack's card."""
    return f"{TEXTS} {compute}".strip()


def wikitext_perplexity(pack: Path, text: str) -> dict[str, dict[str, float]]:
    """Return the perplexity per token and per word of each direction, computed article by article.

    WikiText is published in tokens. They are joined to ordinary text where possible: `` @-@ `` becomes a hyphen. A word
    is one of the published tokens.
    """
    bundle = read_bundle(pack, Kind.LANGUAGE_MODEL)
    model = LanguageModel(bundle)
    articles = [article for article in text.split("\n = ") if article.strip()]
    words = sum(len(article.split()) for article in articles)
    results: dict[str, dict[str, float]] = {}
    for member in bundle.manifest.members:
        loss, tokens = 0.0, 0
        for article in articles:
            predicted = len(bundle.tokenizer.tokenize(_as_written(article))) - 1
            loss += model.loss(_as_written(article), member.direction) * predicted
            tokens += predicted
        per_token, per_word = math.exp(loss / tokens), math.exp(loss / words)
        results[member.direction] = {"perplexity": round(per_token, 2), "perplexity_per_word": round(per_word, 2)}
    return results


def _as_written(article: str) -> str:
    for published, written in ((" @-@ ", "-"), (" @,@ ", ","), (" @.@ ", "."), (" 's", "'s"), (" n't", "n't")):
        article = article.replace(published, written)
    return article


if __name__ == "__main__":
    main()
