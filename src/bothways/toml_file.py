"""Read a TOML file of settings, in time and memory that are bounded for any content.

Python's parser takes quadratic time and memory for a key with many parts, and several hundred bytes per table. Files of
settings are small, so their size and the length of their keys are limited before they are parsed.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Final

from bothways.errors import ConfigError, path_text, shown

LARGEST_FILE_BYTES: Final = 200_000
"""Largest file of settings."""
_MOST_DOTS = 100
_BETWEEN_KEYS = re.compile(r"[=,\n\[\]{}]")


def read_toml(path: Path) -> dict[str, object]:
    """Return the content of a TOML file as plain values.

    Raises:
        ConfigError: The file can't be read, is too large or is not TOML.
    """
    name = path_text(path)
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_FILE_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{name} can't be read: {error.strerror}") from None
    except ValueError as error:  # a path with a null character
        raise ConfigError(f"{name} can't be read: {error}") from None
    if len(data) > LARGEST_FILE_BYTES:
        raise ConfigError(f"{name} has more than {LARGEST_FILE_BYTES} bytes, expected a few lines of settings")
    try:
        text = data.decode("utf-8")
        if any(part.count(".") > _MOST_DOTS for part in _BETWEEN_KEYS.split(text)):
            raise ConfigError(f"{name} is not a file of settings: a key has more than {_MOST_DOTS} parts")
        return tomllib.loads(text)
    except ConfigError:
        raise
    except RecursionError:
        raise ConfigError(f"{name} is not a file of settings: it is nested too deeply") from None
    except ValueError as error:
        raise ConfigError(f"{name} is not valid TOML: {shown(str(error))}") from None
