"""Metrics, and the dashboard and alerts in deploy/ that read them."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import re
import shutil
import subprocess
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

import bothways
import bothways.serve
from bothways.errors import BundleBroken
from bothways.runtime.classifier import Classifier
from bothways.serve.app import build_app
from bothways.serve.bundles import ModelVersion
from bothways.serve.log import _Lines, described_error
from bothways.serve.metrics import ServerMetrics
from bothways.serve.service import Service
from bothways.serve.settings import LogFormat, Settings
from tests.bundles import write_with_abstention
from tests.serve.conftest import RunningServer

pytestmark = pytest.mark.enable_socket

DEPLOY = Path(__file__).parents[2] / "deploy"
PROMTOOL = shutil.which("promtool")
_METRIC = re.compile(r"\b((?:bothways|process|up)\w*)(?:\{([^}]*)\})?")
_LABEL = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)")
_SCRAPE_LABELS = {"job", "instance"}


@pytest.fixture
def page(server: RunningServer) -> str:
    server.classify(["a film"])
    return server.request("/metrics").body.decode()


def labels_by_metric(page: str) -> dict[str, set[str]]:
    """Return the labels of each metric on a page."""
    found: dict[str, set[str]] = {"up": set()}
    for line in page.splitlines():
        if sample := re.match(r"(\w+)(?:\{(.*)\})? ", line):
            found.setdefault(sample[1], set()).update(re.findall(r'(\w+)="', sample[2] or ""))
    return found


def dashboard_expressions() -> list[str]:
    dashboard = json.loads((DEPLOY / "grafana.json").read_text())
    return [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]


def alert_expressions() -> list[str]:
    text = (DEPLOY / "alerts.yaml").read_text()
    found = re.findall(r"expr: (?:>-\n((?: {10,}.*\n)+)|(.*)\n)", text)
    return [" ".join((folded or plain).split()) for folded, plain in found]


@pytest.mark.parametrize("expressions", [dashboard_expressions(), alert_expressions()], ids=["dashboard", "alerts"])
def test_dashboard_and_alerts_read_metrics_and_labels_that_exist(expressions: list[str], page: str) -> None:
    labels = labels_by_metric(page)
    assert len(expressions) >= 8
    for expression in expressions:
        names = _METRIC.findall(expression)
        assert names, expression
        known = set().union(*(labels[name] for name, _ in names)) | _SCRAPE_LABELS
        for name, selector in names:
            assert set(_LABEL.findall(selector)) <= labels[name] | _SCRAPE_LABELS, expression
        for grouped in re.findall(r"\b(?:by|on) \(([^)]*)\)", expression):
            assert {label.strip() for label in grouped.split(",")} <= known, expression


def test_the_dashboard_can_be_imported() -> None:
    dashboard = json.loads((DEPLOY / "grafana.json").read_text())
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels}) == len(panels)
    assert {variable["name"] for variable in dashboard["templating"]["list"]} == {"datasource", "instance", "model"}
    assert all(panel["datasource"]["uid"] == "${datasource}" for panel in panels)


@pytest.mark.skipif(PROMTOOL is None, reason="no promtool: it is part of Debian's package prometheus")
def test_promtool_accepts_alerts_dashboard_and_metrics(page: str, tmp_path: Path) -> None:
    variables = {"$__rate_interval": "5m", "$instance": ".*", "$model": ".*"}
    rules = []
    for number, expression in enumerate(dashboard_expressions()):
        plain = re.sub("|".join(map(re.escape, variables)), lambda match: variables[match[0]], expression)
        rules.append({"record": f"panel_{number}", "expr": plain})
    (tmp_path / "dashboard.yaml").write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    assert PROMTOOL is not None
    for file in (DEPLOY / "alerts.yaml", tmp_path / "dashboard.yaml"):
        subprocess.run([PROMTOOL, "check", "rules", str(file)], check=True)
    subprocess.run([PROMTOOL, "check", "metrics"], input=page, text=True, check=True)


def test_the_metrics_of_the_documentation_are_all_that_exist(page: str) -> None:
    part = (DEPLOY.parent / "docs" / "serving.md").read_text().partition("\n## Monitoring\n")[2]
    table = [row.split("|") for row in part.partition("\n\nThe")[0].splitlines() if row.startswith("| `")]
    documented: dict[str, set[str]] = {}
    for _, cell, *_ in table:
        _, _, shared = cell.partition("` `{")  # the labels of all metrics of the row
        for name, own in re.findall(r"`(\w+)(?:\{([a-z,]+)\})?`", cell):
            documented[name] = set(filter(None, (own or shared.strip(" }`")).split(",")))
    labels = {name: found for name, found in labels_by_metric(page).items() if not name.endswith("_created")}
    existing = {re.sub("_(bucket|count|sum)$", "", name): found - {"le"} for name, found in labels.items()}
    assert {name for name in documented if name.startswith("process")} <= existing.keys()
    for metrics in (documented, existing):
        for name in [name for name in metrics if not name.startswith("bothways")]:
            del metrics[name]
    assert documented == existing
    for label in ("reason", "stage", "result"):
        known = set(re.findall(rf'{label}="(\w+)"', page))
        ((_, _, description, _),) = [row for row in table if f"{{{label}" in row[1]]
        stated = set(re.findall(r"`([a-z_]+)`", description))
        assert stated <= known, (label, stated, known)


def test_texts_and_tokens_are_counted_and_probes_have_no_influence_on_the_latency(
    server: RunningServer, model: Classifier
) -> None:
    def counts() -> list[float]:
        of_model = '{model="tiny",version="1"}'
        names = ("texts_total", "bad_texts_total", "tokens_total")
        latency = server.metric("bothways_latency_seconds_count", '{model="",stage="request",version=""}')
        return [*(server.metric(f"bothways_{name}", of_model) for name in names), latency]

    before = counts()
    server.classify(["a film", 7])
    server.request("/health/ready")
    tokens = len(model.tokenizer.tokenize("a film"))
    assert [now - then for now, then in zip(counts(), before, strict=True)] == [1, 1, tokens, 0]


def test_the_page_has_the_metrics_of_the_process(page: str) -> None:
    values = dict(re.findall(r"^(process_\w+) (\S+)$", page, re.MULTILINE))
    assert 10_000_000 < float(values["process_resident_memory_bytes"]) < 10_000_000_000
    assert 0 < time.time() - float(values["process_start_time_seconds"]) < 86_400
    assert values.keys() >= {"process_cpu_seconds_total", "process_open_fds", "process_max_fds"}


@pytest.fixture
def no_garbage_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def test_f10_metrics_keep_no_replaced_model_in_memory(bundle_path: Path, no_garbage_collection: None) -> None:
    """Without the garbage collector, a model is freed at once only if no cycle of references contains it."""
    settings, metrics = Settings(threads=1), ServerMetrics()
    source = ModelVersion("tiny", "1", bundle_path)
    service = Service([source], settings, metrics)
    service.load_all()
    old = weakref.ref(service.model().model)
    batcher = weakref.ref(service.model().batcher)
    assert b'bothways_queue_tokens{model="tiny",version="1"} 0.0' in metrics.render()
    service.reload([source], only_changed=False)
    assert (old(), batcher()) == (None, None)
    page = metrics.render().decode()
    assert page.count("\nbothways_model{") == 1
    assert 'bothways_reloads_total{model="tiny",result="succeeded",version="1"} 1.0' in page
    service.close(1)


def logged(kind: LogFormat, message: str, **fields: object) -> str:
    record = logging.LogRecord("x", logging.ERROR, "x.py", 1, "%s", (message,), None)
    record.bothways_fields = fields
    return _Lines(kind).format(record)


@pytest.mark.parametrize("kind", ["text", "json"])
def test_nothing_in_a_message_or_a_field_can_end_a_line_of_the_log(kind: LogFormat) -> None:
    evil = 'a\r\n2026-01-01T00:00:00Z info POST\x1b[31m\x85\u2028\u202e\x00 b=c "q"'
    line = logged(kind, evil, model=evil, error=evil)
    assert len(line.splitlines()) == 1
    assert line.isprintable()
    if kind == "json":
        value: dict[str, Any] = json.loads(line)
        assert list(value) == ["time", "level", "message", "model", "error"]
        assert value["model"] == evil
    else:
        assert ' model="a\\r\\n2026' in line
        assert logged(kind, "m", model="tiny", version="2").endswith("Z error m model=tiny version=2")


def raised(error: Exception) -> Exception:
    try:
        raise error
    except Exception as found:  # noqa: BLE001
        return found


def test_an_error_is_logged_with_its_place_but_only_with_a_message_that_quotes_no_text() -> None:
    bug = described_error(raised(ValueError("could not read 'my secret diary'")))
    assert bug["error_type"] == "builtins.ValueError"
    assert "in raised" in str(bug["traceback"])
    assert "secret" not in str(bug)
    assert (
        described_error(raised(OSError(28, "No space left on device")))["error"] == "[Errno 28] No space left on device"
    )
    assert described_error(raised(BundleBroken("a file is too short")))["error"] == "a file is too short"


def test_a_bug_is_a_reply_with_an_id_and_a_line_without_the_text(caplog: pytest.LogCaptureFixture) -> None:
    service, text = Service((), Settings(), ServerMetrics()), "my secret diary"

    def fail() -> bytes:
        raise ValueError(text)

    service.metrics.render = fail  # type: ignore[method-assign]
    sent: list[Any] = []

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"x-request-id", b"order-17")]
    scope = {"type": "http", "method": "GET", "path": "/metrics", "headers": headers, "query_string": b""}
    asyncio.run(build_app(service)(scope, receive, send))
    start, body = sent
    assert (start["status"], json.loads(body["body"])) == (500, {"error": "internal error", "kind": "internal"})
    assert dict(start["headers"])[b"x-request-id"] == b"order-17"
    (line,) = [_Lines("json").format(record) for record in caplog.records]
    assert '"message": "internal error"' in line
    assert '"route": "/metrics", "request_id": "order-17"' in line
    assert "in fail" in line
    assert "secret" not in line


def test_predictions_are_counted_by_label_and_cause_to_abstain(bundle_path: Path, tmp_path: Path) -> None:
    texts = ["a film", "the cat", "a lovely film", "it was terrible", ""]
    careful = write_with_abstention(bundle_path, tmp_path / "careful.bundle", texts[:4])
    found = list(bothways.load(careful).stream(texts))
    with TestClient(bothways.serve.asgi_app(str(careful))) as client:
        assert client.post("/v1/classify", json={"texts": texts}).status_code == 200
        page = client.get("/metrics").text
    counts = dict(re.findall(r'bothways_labels_total\{label="([^"]*)".*\} (.*)', page))
    labels = [each.label for each in found]
    assert {label: int(float(count)) for label, count in counts.items()} == {
        label: labels.count(label) for label in set(labels)
    }
    shares = dict(re.findall(r'bothways_label_training_share\{label="([^"]*)".*\} (.*)', page))
    assert {label: float(share) for label, share in shares.items()} == {"bad": 0.25, "good": 0.275, "so-so": 0.3}
    reasons = dict(re.findall(r'bothways_abstained_total\{.*cause="([^"]*)".*\} (.*)', page))
    abstained = [each.abstained for each in found]
    assert {reason: int(float(count)) for reason, count in reasons.items()} == {
        reason: abstained.count(reason)
        for reason in ("empty", "only digits or punctuation", "mostly unknown", "out of domain", "low confidence")
    }
    assert abstained.count("low confidence") == 2
    (total,) = re.findall(r"bothways_label_probability_sum\{.*\} (.*)", page)
    assert float(total) == pytest.approx(sum(each.probability or 0 for each in found))
