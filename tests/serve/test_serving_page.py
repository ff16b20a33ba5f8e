"""What docs/serving.md states in tables and examples is so: routes, limits, defaults, calls and settings.

``test_monitoring.py`` compares its metrics, and ``test_embedded.py`` runs its Python.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from starlette.routing import Route
from typer.core import TyperGroup
from typer.main import get_command

from bothways import strict_json
from bothways.cli.app import app
from bothways.runtime.classifier import Classifier
from bothways.serve.app import build_app
from bothways.serve.bundles import parse_bundles, read_bundles
from bothways.serve.grpc_messages import CLASSES
from bothways.serve.metrics import ServerMetrics
from bothways.serve.protocols.protocol import _MORE_VALUES, _VALUES_PER_TEXT
from bothways.serve.service import Service
from bothways.serve.settings import Settings, read_settings
from tests.serve.conftest import HOST, RunningServer

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
PROSE = re.sub(r"^```.*?^```$", "", PAGE, flags=re.DOTALL | re.MULTILINE)
CURL = shutil.which("curl")


def section(heading: str) -> str:
    """Return what is below a heading, up to the next one of its level."""
    level = heading.index(" ")
    return re.split(rf"^#{{1,{level}}} ", PROSE.partition(f"\n{heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]


def rows(part: str) -> list[list[str]]:
    """Return the cells of the rows of a table."""
    lines = [line for line in part.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_the_table_of_limits_has_every_limit_with_its_default() -> None:
    defaults = {limit: int(default.replace(",", "")) for limit, default, _ in rows(section("## Limits"))}
    of_options = {name[1]: default for limit, default in defaults.items() if (name := re.match("`([a-z-]+)`", limit))}
    assert of_options == {
        name.replace("_", "-"): field.default
        for name, field in Settings.model_fields.items()
        if name.startswith("max_") or name.endswith("_timeout_s") or name == "keep_alive_s"
    }
    others = [default for limit, default in defaults.items() if not limit.startswith("`")]
    most_values, levels = others
    assert most_values == _VALUES_PER_TEXT * Settings().max_texts + _MORE_VALUES
    strict_json.parse(b"[" * levels + b"]" * levels)
    with pytest.raises(ValueError, match="nested too deeply"):
        strict_json.parse(b"[" * (levels + 1) + b"]" * (levels + 1))


def test_other_defaults_are_those_of_the_settings() -> None:
    default = Settings()
    assert f"| none | `{default.host}:{default.port}`" in section("## Addresses")
    assert f"the default here is {default.keep_alive_s:g} s" in section("## Behind a load balancer or proxy")
    assert (default.grpc_port, default.uds, default.cors_origin, default.api_key_file) == (None, None, (), None)


def test_every_setting_is_an_option_and_every_variable_a_setting() -> None:
    group = get_command(app)
    assert isinstance(group, TyperGroup)
    options = {option for parameter in group.commands["serve"].params for option in parameter.opts}
    assert {f"--{name.replace('_', '-')}" for name in Settings.model_fields} <= options
    variables = set(re.findall(r"\bBOTHWAYS_([A-Z_]+)", PAGE))
    assert {name.lower() for name in variables} <= set(Settings.model_fields)
    assert variables


def test_routes_that_it_names_exist() -> None:
    app_of_all = build_app(Service((), Settings(), ServerMetrics()))
    routes = [route for route in app_of_all.routes if isinstance(route, Route)]
    known = {(method, route.path) for route in routes for method in route.methods or ()}
    named = re.findall(r"`(?:(GET|POST) )?(/(?!reviews|opt)[^`.]*)`", PROSE)
    assert len(named) > 40
    for method, path in named:
        route = path.replace("NAME", "{model}").replace("versions/v2", "versions/{version}")
        assert any((each, route) in known for each in ([method] if method else ["GET", "POST"])), path


def test_calls_of_grpc_that_it_names_are_all_that_exist() -> None:
    (named,) = re.findall(r"serve ([\w, ]+) of `inference\.GRPCInferenceService`", section("### gRPC"))
    existing = {name.removesuffix("Response") for name in CLASSES if name.endswith("Response")} - {"HealthCheck"}
    assert set(re.split(r", | and ", named)) == existing


def test_its_examples_of_bundles_can_be_read(tmp_path: Path) -> None:
    steps = rows(section("## Several versions of a model"))
    assert [len(parse_bundles(json.loads(bundles.strip("`")))) for _, bundles in steps] == [1, 2, 2, 1]
    (example,) = re.findall(r"```toml\n(.*?)```", PAGE, flags=re.DOTALL)
    (tmp_path / "serve.toml").write_text(example)
    assert [each.weight for each in read_bundles([], tmp_path / "serve.toml")] == [90, 10]
    assert read_settings({}, tmp_path / "serve.toml", {}) == Settings(watch_s=5)


def test_what_it_states_about_files_of_deploy_is_there() -> None:
    nginx = (ROOT / "deploy" / "nginx.conf").read_text()
    named = re.findall(r"`(\w+_\w+ \w+)`", section("### nginx"))
    assert len(named) == 3
    assert all(f" {setting};" in nginx for setting in named)
    manifest = (ROOT / "deploy" / "kubernetes.yaml").read_text()
    service, port = re.findall(r"service: \{name: (\w+), port: \{name: (\w+)\}\}", PAGE)[0]
    assert f"kind: Service\nmetadata:\n  name: {service}\n" in manifest
    assert f"- {{name: {port}, port: " in manifest
    assert "enableServiceLinks: false" in manifest
    assert "BOTHWAYS_HOST=0.0.0.0" in (ROOT / "deploy" / "Dockerfile").read_text()


@pytest.mark.enable_socket
@pytest.mark.skipif(CURL is None, reason="no curl")
def test_its_curl_commands_run(
    regression_server: RunningServer,
    regression_model: Classifier,
    multi_label_model: Classifier,
    tmp_path: Path,
) -> None:
    text = "what a lovely film"
    (tmp_path / "texts.jsonl").write_text(f'"{text}"\n{{"text": "{text}"}}\n')
    commands = [line for line in PAGE.splitlines() if line.startswith("curl ")]
    found = []
    for command in commands:
        local = command.replace("localhost:8080", f"{HOST}:{regression_server.port}")
        finished = subprocess.run(["sh", "-c", local], cwd=tmp_path, capture_output=True, check=True, timeout=60)
        content = finished.stdout or (tmp_path / "predictions.jsonl").read_bytes()
        found.append([json.loads(line) for line in content.splitlines()])
    ((classified,), (scores,), (predictions,), lines) = found
    (value,) = regression_model.predict([text]).tolist()
    assert [result["value"] for result in [*classified["results"], *lines]] == [value] * 3
    (labels,) = multi_label_model.predict([text])
    assert {each["label"] for each in scores if each["chosen"]} == set(labels)
    assert predictions["predictions"][0]["labels"] == list(labels)


def test_the_tests_that_hold_its_sentences_exist() -> None:
    """tests/serve/README.md names them."""
    places = {"S/": "tests/serve/test_", "U/": "tests/unit/serve/test_", "G/": "tests/guarantees/test_"}
    table = (ROOT / "tests" / "serve" / "README.md").read_text(encoding="utf-8").partition("\n## ")[2]
    missing = []
    for line in table.splitlines():
        code = ""
        for short, name, path, test in re.findall(r"\b([SUG]/)(\w+)|\b(tests/[\w/]+\.py)|::([a-z]\w+)", line):
            if test:
                missing += [] if f" {test}" in code else [test]
            else:
                file = ROOT / (path or f"{places[short]}{name}.py")
                code = file.read_text(encoding="utf-8") if file.exists() else ""
                missing += [] if code else [str(file)]
    assert not missing
