"""Bring the manifest of a format-1 bundle into the shape of format 2, which is all that other modules know.

In: parsed JSON. Out: the fields of a ``Manifest``. Format 1 had other names for some keys and for the parity record,
one text column, labels that are always texts, and no digest of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from bothways.bundle.manifest import PARITY_FILE, FileName
from bothways.errors import quoted

FILE_NAMES: Final[Mapping[FileName, str]] = {PARITY_FILE: "proof.jsonl"}
"""Names of files in format 1 that are others in format 2."""

_MANIFEST_KEYS = {"cascade": "early_exit"}
_MEMBER_KEYS = {"markers": "special_tokens"}
_TRAINING_KEYS = {"recipe": "hyperparameters", "text_column": "text_columns"}
_FILE_KEYS = {old: str(new) for new, old in FILE_NAMES.items()}
_NEW_ARCHITECTURE_KEYS = {"kind", "first_window", "output_gate"}
_NEW_KEYS = {"digest", "label_kind", "label_columns", "weight_column", "targets", "value_range"}


def upgraded(fields: Mapping[str, object], digest: str) -> dict[str, object]:
    """Return the fields of a manifest of format 1 in the shape of format 2.

    What is not a manifest at all comes back as it is, for the schema to refuse.

    Args:
        fields: The manifest as parsed JSON.
        digest: SHA-256 of the manifest's bytes, by which a bundle of format 1 is identified.

    Raises:
        ValueError: A key belongs to format 2, so that the format number was changed.
    """
    result = _renamed(fields, _MANIFEST_KEYS)
    result["digest"] = digest
    if isinstance(members := result.get("members"), list):
        result["members"] = [_member(member) if isinstance(member, dict) else member for member in members]
    if isinstance(training := result.get("training"), dict):
        result["training"] = training = _renamed(training, _TRAINING_KEYS)
        column = training.get("text_columns")
        training["text_columns"] = [] if column is None else [column]
    if isinstance(files := result.get("files"), dict):
        result["files"] = _renamed(files, _FILE_KEYS)
    return result


def _member(fields: Mapping[str, object]) -> dict[str, object]:
    sizes = fields.get("architecture")
    if isinstance(sizes, dict) and (unknown := sorted(sizes.keys() & _NEW_ARCHITECTURE_KEYS)):
        raise ValueError(f"format 1 has no key {quoted(unknown[0])} in an architecture")
    return _renamed(fields, _MEMBER_KEYS)


def _renamed(fields: Mapping[str, object], names: Mapping[str, str]) -> dict[str, object]:
    if unknown := sorted(fields.keys() & (_NEW_KEYS | set(names.values()))):
        raise ValueError(f"format 1 has no key {quoted(unknown[0])}")
    return {names.get(name, name): value for name, value in fields.items()}
