"""Build the wheel, install it without the training dependencies in an empty environment, and predict with a bundle."""

import json
import subprocess
import sys
import venv
from pathlib import Path

import pytest

import bothways

ROOT = Path(__file__).parents[2]
SCRIPT = """
import importlib.util, json, sys
assert importlib.util.find_spec("torch") is None, "torch is installed"
assert importlib.util.find_spec("sklearn") is None, "scikit-learn is installed"
import bothways
model = bothways.load(sys.argv[1])
passed = bothways.verify(sys.argv[1]).passed
print(json.dumps([bothways.__file__, passed, model.predict_proba(["a b", "", "HELLO!!!"]).tolist()]))
"""


def run(*command: str, cwd: Path) -> str:
    finished = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


@pytest.mark.slow
@pytest.mark.enable_socket
def test_an_installed_wheel_predicts_without_the_training_dependencies(tmp_path: Path, bundle_path: Path) -> None:
    run(sys.executable, "-m", "build", "--wheel", "--outdir", str(tmp_path), str(ROOT), cwd=tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    venv.create(tmp_path / "empty", with_pip=True)
    python = str(tmp_path / "empty" / "bin" / "python")
    constraints = str(ROOT / "constraints.txt")
    run(python, "-m", "pip", "install", "--quiet", "-c", constraints, str(wheel), cwd=tmp_path)

    output = json.loads(run(python, "-c", SCRIPT, str(bundle_path), cwd=tmp_path).splitlines()[-1])
    assert output[0].startswith(str(tmp_path))
    assert output[1] is True
    assert output[2] == bothways.load(bundle_path).predict_proba(["a b", "", "HELLO!!!"]).tolist()

    bothways_there = str(tmp_path / "empty" / "bin" / "bothways")
    needs = {
        "train": ["train", "x.csv", "--text", "a", "--label", "b", "--out", "o"],
        "serve": ["serve", str(bundle_path)],
    }
    for extra, command in needs.items():
        answer = subprocess.run([bothways_there, *command], capture_output=True, text=True, check=False, cwd=tmp_path)
        assert answer.returncode == 1
        assert f"pip install 'bothways[{extra}]'" in answer.stderr
