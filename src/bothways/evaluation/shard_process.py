"""Score files one after the other in a process of ``score_files``: python -m bothways.evaluation.shard_process.

In: the job in the first line of standard input, and a file in each other line. Out: lines of JSON with the rows so far,
and with the end of each file. The process ends with the one that started it, also if that was killed.
"""

from __future__ import annotations

import hashlib
import json
import os
import queue
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

from bothways.data.invalid import invalid_path
from bothways.data.storage import Storage, Stored
from bothways.errors import BothwaysError, OutputExists
from bothways.evaluation.score import score
from bothways.evaluation.shards import RECORDS
from bothways.runtime.classifier import Classifier, load, require_digest

_REPORT_S = 0.2


def main() -> None:
    """Score the files that standard input names."""
    first = sys.stdin.readline()
    if not first:  # the process that started this one has ended
        return
    job = json.loads(first)
    files: queue.SimpleQueue[Stored] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(files,), daemon=True).start()
    model: Classifier | None = None
    source: Storage | None = None
    out: Storage | None = None
    while True:
        file = files.get()
        try:
            if model is None or source is None or out is None:
                source, out = Storage(job["source"]), Storage(job["out"])
                model = load(job["bundle"], early_exit=job["early_exit"], precision=job["precision"], threads=1)
                require_digest(model.digest, job["digest"], job["bundle"], "this call")
            _report("done", **_Shard(job["options"], source, out, file).scored(model))
        except BothwaysError as error:
            _report("done", error=str(error), kind=type(error).__name__)


def _receive(files: queue.SimpleQueue[Stored]) -> None:
    for line in sys.stdin:
        files.put(Stored(**json.loads(line)))
    os._exit(0)  # the process that started this one has ended, or needs it no longer


def _report(report: str, **values: object) -> None:
    try:
        sys.stdout.write(json.dumps({"report": report, **values}) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        os._exit(0)


class _Shard:
    """A file to score, and its record."""

    def __init__(self, options: dict[str, Any], source: Storage, out: Storage, file: Stored) -> None:
        self._options, self._source, self._out, self._file = options, source, out, file
        self._target = f"{self._out.path}/{file.name}"
        self._record_path = f"{self._out.path}/{RECORDS}/files/{file.name}.json"
        record = self._out.size_of(self._record_path)
        self._record: dict[str, Any] | None = None if record is None else json.loads(self._out.read(self._record_path))

    def scored(self, model: Classifier) -> dict[str, object]:
        """Score the file unless that is done, and return the numbers of its rows.

        The record is written before and after the file, so that a file without one is not ours, and a file with an
        unfinished one is written again.

        Raises:
            OutputExists: A file is in the place of the output that no call has written.
            BothwaysError: See ``score``.
        """
        if self._record is None and self._out.size_of(self._target) is not None:
            raise OutputExists(f"{self._out}/{self._file.name} exists and was not written by this command: move it")
        done = None if self._record is None or not self._is_complete(self._record) else self._record
        if done is not None and done["input"] == self._input():
            return {"rows": done["rows"], "skipped": True}
        with tempfile.TemporaryDirectory(prefix="bothways-") as folder:
            source = self._local_source(Path(folder))
            digest = _digest(source)
            if done is not None and done["input_sha256"] == digest:
                self._write_record(digest, done["rows"], done["output_bytes"])
                return {"rows": done["rows"], "skipped": True}
            self._write_record(digest, 0, None)
            return self._score(model, source, Path(folder), digest)

    def _score(self, model: Classifier, source: Path, folder: Path, digest: str) -> dict[str, object]:
        unreadable: Counter[str] = Counter()
        abstained: Counter[str] = Counter()
        invalid: Counter[str] = Counter()
        reported = time.monotonic()

        def on_progress(rows: int) -> None:
            nonlocal reported
            if time.monotonic() - reported >= _REPORT_S:
                reported = time.monotonic()
                _report("rows", rows=rows)

        if self._out.is_local:  # beside the output, so that it can be renamed, and continued by the next call
            folder = Path(self._out.path, RECORDS, "unfinished", self._file.name).parent
            folder.mkdir(parents=True, exist_ok=True)
        output = folder / f"scored-{Path(self._file.name).name}"
        listing = invalid_path(str(output))
        for complete in (output, listing):  # of a call that was killed before it could publish them
            complete.unlink(missing_ok=True)
        rows = score(
            model,
            source,
            output,
            **self._options,
            on_progress=on_progress,
            on_unreadable=lambda _, reason: unreadable.update([reason]),
            on_abstained=lambda _, reason: abstained.update([reason]),
            on_invalid=lambda row: invalid.update([row.reason]),
        )
        size = output.stat().st_size
        listed = f"{self._target}.invalid.jsonl"
        if listing.exists():
            self._out.publish(listing, listed)
        elif self._record is not None and self._out.size_of(listed) is not None:
            self._out.remove(listed)  # the input that had invalid rows was corrected
        self._out.publish(output, self._target)
        self._write_record(digest, rows, size)
        return {"rows": rows, "unreadable": unreadable, "abstained": abstained, "invalid": invalid}

    def _is_complete(self, record: dict[str, Any]) -> bool:
        """Return whether the output is the one that a record describes. An unfinished one has no size."""
        return record["output_bytes"] is not None and self._out.size_of(self._target) == record["output_bytes"]

    def _local_source(self, folder: Path) -> Path:
        if self._source.is_local:
            return Path(self._file.path)
        copy = folder / Path(self._file.name).name
        self._source.fetch(self._file.path, copy)
        return copy

    def _input(self) -> dict[str, object]:
        return {"path": self._file.path, "bytes": self._file.size, "changed_ns": self._file.changed_ns}

    def _write_record(self, digest: str, rows: int, output_bytes: int | None) -> None:
        record = {"input": self._input(), "input_sha256": digest, "rows": rows, "output_bytes": output_bytes}
        self._out.write(self._record_path, json.dumps(record).encode())


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    main()
