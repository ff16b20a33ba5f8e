"""Fuzz one reader in this process: ``python -m tests.fuzz.one READER`` with options of libFuzzer.

Not for use by hand: ``python -m tests.fuzz`` starts it, with a time limit, and counts the cases.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import cast

import atheris

from tests.fuzz.code import instrumented

with atheris.instrument_imports(*instrumented(sys.argv[1])):
    from tests.fuzz.targets import TARGETS, Target

from bothways.errors import BothwaysError
from tests.fuzz.quick import KeptFile, quick_readers

LONGEST_MESSAGE = 2000


def refusal(target: Target, path: Path) -> str:
    """Read a file, and return the message of the error, or an empty string."""
    try:
        target.entrance.read(path)
    except BothwaysError as error:
        message = str(error)
        assert message.isprintable(), ascii(message)
        assert len(message) <= LONGEST_MESSAGE, message
        return message
    return ""


def main(name: str, options: list[str]) -> None:
    """Read inputs of libFuzzer through a target until an option of libFuzzer ends it."""
    target = TARGETS[name]
    with target.entrance.place() as path:
        file = KeptFile(path)

        def read(data: bytes) -> str:
            file.keep(target.wrap(data))
            return refusal(target, cast("Path", file))

        for data in (target.seeds[0], target.seeds[0][:-9]):  # also imports what is imported when it is needed
            path.write_bytes(target.wrap(data))
            expected = refusal(target, path)
            assert read(data) == expected, "a kept file is read in another way than a file on the disk"
        with quick_readers():
            atheris.Setup([sys.argv[0], *options], read)
            atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
