"""Starting, draining, reloading and crashing: accepted requests are answered, and never by a wrong model."""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import itertools
import json
import os
import random
import shutil
import signal
import threading
import time
import urllib.parse
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import bothways
from bothways.bundle.manifest import MANIFEST_FILE
from bothways.runtime.classifier import Classifier
from tests.bundles import (
    FILES,
    edit_json,
    edit_manifest,
    edit_weights,
    python_environment,
    record_decisions,
    replace_file,
)
from tests.console import run_bothways
from tests.serve.conftest import HOST, RunningServer, running, threads_of
from tests.serve.test_abuse import eventually

pytestmark = pytest.mark.enable_socket
TEXTS = ["what a lovely film", "the DOG ate the cat", "I hated every minute of it " * 12]


class Load:
    """Clients that send requests in a loop and record the replies. A refused connection is not a lost request."""

    def __init__(self, server: RunningServer, clients: int = 6) -> None:
        self.port = server.port
        self.statuses: Counter[int] = Counter()
        self.lost: list[str] = []
        self.replies: list[dict[str, object]] = []
        self._is_over = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._ask_on) for _ in range(clients)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join()

    def _ask_on(self) -> None:
        body = json.dumps({"texts": TEXTS}).encode()
        while not self._is_over.is_set():
            connection = http.client.HTTPConnection(HOST, self.port, timeout=30)
            try:
                connection.connect()
            except OSError:
                time.sleep(0.01)
                continue
            with contextlib.closing(connection):
                try:
                    connection.request("POST", "/v1/classify", body)
                    response = connection.getresponse()
                    value = json.loads(response.read())
                except (OSError, http.client.HTTPException) as error:
                    with self._lock:
                        self.lost.append(repr(error))
                    continue
            with self._lock:
                self.statuses[response.status] += 1
                if response.status == 200:
                    self.replies.append(value)


def rows(reply: dict[str, object]) -> np.ndarray:
    results = reply["results"]
    assert isinstance(results, list)
    return np.array([result["probabilities"]["ensemble"] for result in results])


@contextlib.contextmanager
def serving(bundle: Path, folder: Path, *options: object) -> Iterator[RunningServer]:
    with running(f"m={bundle}", "--threads", 1, *options, folder=folder) as server:
        yield server


def test_accepted_requests_are_answered_after_sigterm(bundle_path: Path, model: Classifier, tmp_path: Path) -> None:
    with serving(bundle_path, tmp_path) as server:
        with Load(server) as load:
            eventually(lambda: load.statuses[200] > 20)
            assert server.stop() == 0
        _check_all_answered(server, load)
    assert set(load.statuses) <= {200, 503}
    expected = model.predict_proba(TEXTS)
    assert all(np.array_equal(rows(reply), expected) for reply in load.replies)


def test_a_second_sigterm_changes_nothing(bundle_path: Path, tmp_path: Path) -> None:
    with serving(bundle_path, tmp_path) as server:
        with Load(server) as load:
            eventually(lambda: load.statuses[200] > 5)
            server.process.send_signal(signal.SIGTERM)
            assert server.stop() == 0
        _check_all_answered(server, load)


def _check_all_answered(server: RunningServer, load: Load) -> None:
    """Each request that the server accepted was answered. Those left in the socket's backlog were never accepted."""
    assert server.log_text.count("POST /v1/classify") == sum(load.statuses.values())
    assert all(error.startswith(("ConnectionReset", "RemoteDisconnected", "BrokenPipe")) for error in load.lost), (
        load.lost
    )
    assert "Traceback" not in server.log_text


def _answers(server: RunningServer) -> bool:
    with contextlib.suppress(OSError, http.client.HTTPException):
        return server.request("/health/live", timeout_s=5).status == 200
    return False


def test_requests_are_answered_when_the_disk_of_the_log_is_full(bundle_path: Path, tmp_path: Path) -> None:
    with running(bundle_path, folder=tmp_path, log=Path("/dev/full")) as server:
        assert [server.classify(TEXTS).status for _ in range(3)] == [200] * 3
        loaded_at_s = server.request("/v1/models").value["models"][0]["loaded_at_s"]
        server.process.send_signal(signal.SIGHUP)
        eventually(lambda: server.request("/v1/models").value["models"][0]["loaded_at_s"] > loaded_at_s)
        assert server.classify(TEXTS).status == 200
        assert server.stop() == 0


def test_requests_are_answered_when_nobody_reads_the_log(bundle_path: Path, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    with running(bundle_path, folder=tmp_path, log=Path(f"/proc/self/fd/{writing}")) as server:
        os.close(writing)
        assert [server.request("/v2/models/another").status for _ in range(200)] == [404] * 200
        assert server.classify(TEXTS).status == 200
        assert server.stop() == 0
    assert 0 < os.read(reading, 1_000_000).count(b"\n") < 200  # or the pipe was never full
    os.close(reading)


def test_requests_are_answered_when_the_reader_of_the_log_has_gone(bundle_path: Path, tmp_path: Path) -> None:
    reading, writing = os.pipe()
    with running(bundle_path, folder=tmp_path, log=Path(f"/proc/self/fd/{writing}")) as server:
        os.close(writing)
        os.close(reading)
        assert [server.classify(TEXTS).status for _ in range(3)] == [200] * 3
        assert server.stop() == 0


FORGED = "2026-01-01T00:00:00Z POST /v1/classify 200"


@pytest.mark.parametrize("log", ["text", "json"])
def test_the_log_has_one_line_per_request_and_nothing_that_clients_write(
    bundle_path: Path, log: str, tmp_path: Path
) -> None:
    with serving(bundle_path, tmp_path, "--log", log) as server:
        before = len(server.log_text.splitlines())
        secret = "my secret diary"
        line = urllib.parse.quote(f"\r\n{FORGED}\n")
        replies = [
            server.classify([secret, f"\n{FORGED}"]),
            server.classify([secret], model=f"\n{FORGED}"),
            server.request(f"/v2/models/m{line}/infer", {"inputs": secret}),
            server.request("/predict", {"inputs": secret}, {"user-agent": f"{secret} {FORGED}"}),
            server.request("/v1/classify", secret.encode()),
        ]
        assert [reply.status for reply in replies] == [200, 404, 404, 200, 400]
        for path in ("/health", "/health/live", "/health/ready", "/ping", "/v2/health/live", "/v2/models/m/ready"):
            assert server.request(path).status == 200
        metrics = server.request("/metrics").body.decode()
        assert not any(part in metrics for part in ("secret", "2026-01-01", "diary"))
        assert server.classify([secret]).status == 200
        eventually(lambda: len(server.log_text.splitlines()) >= before + 6)
    *lines, _ = server.log_text.splitlines()[before:]
    assert len(lines) == 5  # and none about probes
    assert " POST other 404" in lines[2] or '"route": "other", "status": 404' in lines[2]
    assert not any(part in "".join(lines) for part in ("secret", "2026-01-01", "diary"))
    if log == "json":
        assert [json.loads(line)["status"] for line in lines] == [200, 404, 404, 200, 400]


JUMPING_CLOCK = """
import time

_time, _calls = time.time, [0]


def jumping():
    _calls[0] += 1
    return _time() + 86_400 * (-1) ** _calls[0]


time.time = jumping
"""


def test_a_clock_that_jumps_changes_nothing(bundle_path: Path, model: Classifier, tmp_path: Path) -> None:
    """The clock jumps a day forth and back at every reading: deadlines and queues use the monotonic clock."""
    (tmp_path / "sitecustomize.py").write_text(JUMPING_CLOCK)
    with running(
        f"m={bundle_path}",
        folder=tmp_path,
        variables={"PYTHONPATH": f"{tmp_path}:{python_environment()['PYTHONPATH']}"},
    ) as server:
        looks = [server.request("/v1/models").value["models"][0]["loaded_at_s"] - time.time()]
        server.process.send_signal(signal.SIGHUP)
        eventually(lambda: "reloaded m version 1" in server.log_text)
        looks.append(server.request("/v1/models").value["models"][0]["loaded_at_s"] - time.time())
        assert min(map(abs, looks)) > 80_000  # the clock did jump
        for _ in range(5):
            assert np.array_equal(rows(server.classify(TEXTS).value), model.predict_proba(TEXTS))
        assert server.stop() == 0


def test_it_is_alive_before_it_is_ready_and_ready_only_when_verified(bundle_path: Path, tmp_path: Path) -> None:
    with running(bundle_path, folder=tmp_path, wait=False) as server:
        eventually(lambda: _answers(server))
        while True:
            status = server.classify(["a film"]).status
            if server.request("/health/ready").status == 200:
                break
            assert status == 503
        assert server.classify(["a film"]).status == 200


def test_after_kill_9_a_new_process_serves_immediately_on_the_same_port(bundle_path: Path, tmp_path: Path) -> None:
    with serving(bundle_path, tmp_path) as server, Load(server) as load:
        eventually(lambda: load.statuses[200] > 5)
        assert server.stop(signal.SIGKILL) == -signal.SIGKILL
        before = time.monotonic()
        with running(f"m={bundle_path}", "--threads", 1, folder=tmp_path, port=server.port):
            count = load.statuses[200]
            eventually(lambda: load.statuses[200] > count + 5)  # the same clients, and none hangs
        assert time.monotonic() - before < 60
    assert set(load.statuses) <= {200, 503}


def test_a_reload_under_load_loses_nothing_and_swaps_whole_answers(
    bundle_path: Path, mixed_bundle_path: Path, tmp_path: Path
) -> None:
    path = tmp_path / "live.bundle"
    shutil.copytree(bundle_path, path)
    old, new = (bothways.load(source) for source in (bundle_path, mixed_bundle_path))
    with serving(path, tmp_path) as server:
        with Load(server) as load:
            eventually(lambda: load.statuses[200] > 20)
            _exchange(path, mixed_bundle_path)
            server.process.send_signal(signal.SIGHUP)
            eventually(lambda: server.request("/v1/models").value["models"][0]["digest"] == new.digest)
            count = load.statuses[200]
            eventually(lambda: load.statuses[200] > count + 20)
        assert server.stop() == 0
    assert (load.lost, set(load.statuses)) == ([], {200})
    assert {reply["digest"] for reply in load.replies} == {old.digest, new.digest}
    expected = {model.digest: model.predict_proba(TEXTS) for model in (old, new)}
    assert all(np.array_equal(rows(reply), expected[str(reply["digest"])]) for reply in load.replies)


def test_watching_notices_another_bundle_even_if_it_is_copied_file_by_file(
    bundle_path: Path, mixed_bundle_path: Path, tmp_path: Path
) -> None:
    """F5: a copy that stops half-way is reported and tried again, and the old model answers meanwhile."""
    path = tmp_path / "live.bundle"
    shutil.copytree(bundle_path, path)
    new = bothways.load(mixed_bundle_path)
    with serving(path, tmp_path, "--watch-s", 0.1) as server, Load(server, clients=1) as load:
        last = mixed_bundle_path / "parity.jsonl"
        for file in mixed_bundle_path.iterdir():
            if file != last:
                shutil.copy(file, path)
        failed = '{model="m",result="failed",version="1"}'
        eventually(lambda: server.metric("bothways_reloads_total", failed) > 0)
        assert "live.bundle" in server.request("/health/ready").value["problem"]
        assert server.request("/health/ready").status == 200
        shutil.copy(last, path)
        eventually(lambda: server.request("/v1/models").value["models"][0]["digest"] == new.digest)
        assert server.request("/health/ready").value["problem"] == ""
    assert (load.lost, set(load.statuses)) == ([], {200})


def _exchange(path: Path, bundle: Path) -> None:
    """Put another bundle in the place of one, as a deployment does."""
    shutil.copytree(bundle, path.with_suffix(".new"))
    path.rename(path.with_suffix(".old"))
    path.with_suffix(".new").rename(path)


def _truncated(path: Path) -> None:
    file = path / "forward.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def _missing_file(path: Path) -> None:
    (path / "tokenizer.json").unlink()


def _wrong_parity_record(path: Path) -> None:
    rows = (path / "parity.jsonl").read_text().splitlines()
    first = json.loads(rows[0])
    for of_member in first["probabilities"].values():
        of_member["bad"], of_member["good"] = of_member["good"], of_member["bad"]
    replace_file(path, "parity.jsonl", "\n".join([json.dumps(first), *rows[1:]]).encode() + b"\n")
    record_decisions(path)


def _newer(path: Path) -> None:
    edit_manifest(path, lambda fields: fields.update(format=99))


def _gone(path: Path) -> None:
    path.rename(path.with_suffix(".gone"))


def _not_json(path: Path) -> None:
    (path / MANIFEST_FILE).write_bytes(b"{")


def _other_tokens(path: Path) -> None:
    edit_json(path, "tokenizer.json", lambda fields: fields.update(version="9.9"))


def _not_a_number(path: Path) -> None:
    edit_weights(path, "forward.safetensors", lambda arrays: next(iter(arrays.values())).fill(np.nan))


def _huge_numbers(path: Path) -> None:
    edit_weights(path, "backward.safetensors", lambda arrays: next(iter(arrays.values())).fill(3e38))


def _other_weights(path: Path) -> None:
    edit_weights(path, "forward.safetensors", lambda arrays: next(iter(arrays.values())).__imul__(1.5))


DAMAGES = [
    _truncated,
    _missing_file,
    _wrong_parity_record,
    _newer,
    _gone,
    _not_json,
    _other_tokens,
    _not_a_number,
    _huge_numbers,
    _other_weights,
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_bad_bundle_is_reported_and_the_old_one_keeps_serving(
    damage: Callable[[Path], None], bundle_path: Path, model: Classifier, tmp_path: Path
) -> None:
    path = tmp_path / "live.bundle"
    shutil.copytree(bundle_path, path)
    with serving(path, tmp_path) as server:
        damage(path)
        server.process.send_signal(signal.SIGHUP)
        eventually(lambda: "live.bundle" in server.request("/health/ready").value["problem"])
        assert server.request("/health/ready").status == 200  # F5: a verified model answers
        eventually(lambda: "reload of m version 1 failed, what was served before still " in server.log_text)
        assert server.metric("bothways_reloads_total", '{model="m",result="failed",version="1"}') == 1
        assert "Traceback" not in server.log_text
        reply = server.classify(TEXTS)
        assert np.array_equal(rows(reply.value), model.predict_proba(TEXTS))
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(bundle_path, path)
        server.process.send_signal(signal.SIGHUP)
        eventually(lambda: server.request("/health/ready").value["problem"] == "")


def _has_failed_reloads(server: RunningServer, count: int) -> bool:
    return server.log_text.count("reload of m version 1 failed") == count


CONTENTS = [b"", b"{", b"\x00" * 4096, random.Random(1).randbytes(4096), b"PK\x05\x06" + bytes(18), b"\x80\x04N."]


def test_the_old_model_keeps_serving_with_any_content_in_place_of_a_file(
    bundle_path: Path, model: Classifier, tmp_path: Path
) -> None:
    path = tmp_path / "live.bundle"
    shutil.copytree(bundle_path, path)
    expected = model.predict_proba(TEXTS)
    with serving(path, tmp_path) as server:
        for count, (name, content) in enumerate(itertools.product(FILES, CONTENTS), start=1):
            good = (path / name).read_bytes()
            (path / name).write_bytes(content)
            server.process.send_signal(signal.SIGHUP)
            eventually(partial(_has_failed_reloads, server, count))
            assert np.array_equal(rows(server.classify(TEXTS).value), expected)
            (path / name).write_bytes(good)
        server.process.send_signal(signal.SIGHUP)
        eventually(lambda: server.request("/health/ready").value["problem"] == "")
        assert "Traceback" not in server.log_text
        assert threads_of(server) < 20  # failed reloads leave none behind


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["nowhere.bundle", "--port", "0"], 1, "bundle not found"),
        (["a=x", "a=y"], 2, "two bundles are named 'a'"),
        (["x", "--port", "99999"], 2, "--port: Input should be less than or equal to 65535, found 99999"),
        (["x", "--max-texts", "0", "--drain-s", "-1"], 2, "--drain-s: Input"),
    ],
)
def test_wrong_use_is_one_line(arguments: list[str], status: int, message: str) -> None:
    finished = run_bothways("serve", *arguments)
    assert (finished.returncode, message in finished.stderr) == (status, True), finished.stderr
    assert len(finished.stderr.splitlines()) == 1
