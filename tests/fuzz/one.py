"""Fuzz one reader in this process: ``python -m tests.fuzz.one READER`` with options of libFuzzer.

Not for use by hand: ``python -m tests.fuzz`` starts it, with a time limit, and counts the cases.
"""

from __future__ import annotations

import sys

import atheris

from tests.fuzz.code import instrumented

with atheris.instrument_imports(*instrumented(sys.argv[1])):
    from tests.fuzz.targets import TARGETS

from bothways.errors import BothwaysError
from tests.fuzz.quick import quick_readers

LONGEST_MESSAGE = 2000


def main(name: str, options: list[str]) -> None:
    """Read inputs of libFuzzer through a target until an option of libFuzzer ends it."""
    target = TARGETS[name]
    with target.entrance.place() as path:

        def read(data: bytes) -> None:
            path.write_bytes(target.wrap(data))
            try:
                target.entrance.read(path)
            except BothwaysError as error:
                message = str(error)
                assert message.isprintable(), ascii(message)
                assert len(message) <= LONGEST_MESSAGE, message

        for seed in target.seeds:
            read(seed)  # imports what is imported only when it is needed
        with quick_readers():
            atheris.Setup([sys.argv[0], *options], read)
            atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
