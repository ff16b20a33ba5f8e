"""Settings come from options, variables and a file, and all faults are reported at once with their sources."""

from __future__ import annotations

from pathlib import Path

import pytest

from bothways.errors import ConfigError
from bothways.serve.settings import Settings, kubernetes_variables, read_settings


def written(folder: Path, content: str) -> Path:
    path = folder / "serve.toml"
    path.write_text(content)
    return path


def test_options_win_over_variables_and_those_over_the_file(tmp_path: Path) -> None:
    config = written(tmp_path, 'port = 1\nmax_texts = 2\nhost = "0.0.0.0"\n')
    variables = {"BOTHWAYS_PORT": "3", "BOTHWAYS_MAX_TEXTS": "4", "BOTHWAYS_DATA": "of no setting"}
    found = read_settings({"port": 5, "log": None}, config, variables)
    assert found == Settings(port=5, max_texts=4, host="0.0.0.0")


def test_all_faults_are_reported_with_their_sources(tmp_path: Path) -> None:
    config = written(tmp_path, 'ports = 1\nlog = "loud"\n')
    with pytest.raises(ConfigError) as caught:
        read_settings({"max_texts": 0}, config, {"BOTHWAYS_DRAIN_S": "soon"})
    faults = [
        "--max-texts: Input should be greater than or equal to 1, found 0",
        "variable BOTHWAYS_DRAIN_S: Input should be a valid number",
        f"log in {config}: Input should be 'text', 'json' or 'none', found 'loud'",
        f"ports in {config}: unknown key",
    ]
    assert [fault for fault in faults if fault not in str(caught.value)] == []


@pytest.mark.parametrize(("content", "fault"), [(None, "can't be read"), ("port = ", "is not valid TOML")])
def test_a_file_that_can_not_be_read_is_an_error(tmp_path: Path, content: str | None, fault: str) -> None:
    config = tmp_path / "serve.toml" if content is None else written(tmp_path, content)
    with pytest.raises(ConfigError, match=fault):
        read_settings({}, config, {})


def test_variables_that_kubernetes_sets_for_a_service_are_ignored() -> None:
    """F9: they are named after the Service, and one of them like the setting of the port."""
    variables = {
        "BOTHWAYS_PORT": "tcp://10.0.0.1:80",
        "BOTHWAYS_SERVICE_HOST": "10.0.0.1",
        "BOTHWAYS_SERVICE_PORT": "80",
        "BOTHWAYS_PORT_80_TCP": "tcp://10.0.0.1:80",
        "BOTHWAYS_PORT_80_TCP_PORT": "80",
        "BOTHWAYS_MAX_TEXTS": "4",
    }
    assert read_settings({}, None, variables) == Settings(max_texts=4)
    assert kubernetes_variables(variables) == {"BOTHWAYS_PORT": "tcp://10.0.0.1:80"}
    assert read_settings({}, None, variables | {"PORT": "9000"}) == Settings(max_texts=4, port=9000)  # not the host


def test_port_is_read_as_cloud_run_and_heroku_set_it(tmp_path: Path) -> None:
    """F4: an own variable and an option take precedence over it."""
    config = written(tmp_path, "port = 1\n")
    assert read_settings({}, config, {"PORT": "2"}).port == 2
    assert read_settings({}, config, {"PORT": "2", "BOTHWAYS_PORT": "3"}).port == 3
    assert read_settings({"port": 4}, config, {"PORT": "nothing"}).port == 4
    assert read_settings({}, config, {"PORT": ""}).port == 1
    with pytest.raises(ConfigError, match=r"variable BOTHWAYS_HOST: .* at least 1 character"):
        read_settings({}, None, {"BOTHWAYS_HOST": ""})  # an empty host would be every interface
    with pytest.raises(ConfigError, match="variable PORT: "):
        read_settings({}, config, {"PORT": "nothing"})
