"""Fuzz one reader in this process: ``python -m tests.fuzz.one READER`` with options of libFuzzer.

Not for use by hand: ``python -m tests.fuzz`` starts it, with a time limit, and counts the cases.
"""

from __future__ import annotations

import sys
from functools import cache
from unittest.mock import patch

import atheris

# Python's code for zip is slow to explore, so that is done only where the archive itself is changed.
with atheris.instrument_imports(
    include=["bothways", "tomllib", *(["zipfile"] if sys.argv[1] in ("torch zip", "csv zip", "excel") else [])]
):
    from tests.fuzz.targets import TARGETS

from bothways.errors import BothwaysError
from bothways.interop import fastai_file
from bothways.interop.spacy_tables import tables_from_spacy

LONGEST_MESSAGE = 2000


def main(name: str, options: list[str]) -> None:
    """Read inputs of libFuzzer through a target until an option of libFuzzer ends it."""
    target = TARGETS[name]
    cached = patch.object(fastai_file, "tables_from_spacy", cache(tables_from_spacy))  # a tenth of a second each
    with cached, target.entrance.place() as path:

        def read(data: bytes) -> None:
            path.write_bytes(target.wrap(data))
            try:
                target.entrance.read(path)
            except BothwaysError as error:
                message = str(error)
                assert message.isprintable(), ascii(message)
                assert len(message) <= LONGEST_MESSAGE, message

        atheris.Setup([sys.argv[0], *options], read)
        atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
