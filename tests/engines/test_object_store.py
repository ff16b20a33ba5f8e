"""Files in S3 are scored into S3, with a real server that speaks its protocol (moto), in the engines' environment."""

from __future__ import annotations

import contextlib
import os
import subprocess
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

import bothways
from bothways.runtime.classifier import Classifier
from tests.engines.test_engines import PYTHON, ROOT, TEXTS

pytestmark = pytest.mark.engines
KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}
SERVER = """
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
input()
"""
ENVIRONMENT = {**os.environ, **KEYS, "PYTHONPATH": str(ROOT / "src")}


@pytest.fixture(scope="module")
def settings() -> Iterator[str]:
    """The settings of URLs that lead to the server."""
    with subprocess.Popen(
        [str(PYTHON), "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT
    ) as server:
        assert server.stdout is not None
        yield f"endpoint_override=127.0.0.1:{int(server.stdout.readline())}&scheme=http"
        server.kill()


def in_store(settings: str, code: str, *arguments: str) -> str:
    """Run code with a file system of pyarrow named ``store``, and return what it prints."""
    begin = f"""
        import sys, pyarrow.fs
        store, _ = pyarrow.fs.FileSystem.from_uri("s3://bucket?{settings}&allow_bucket_creation=true")
    """
    command = [str(PYTHON), "-c", textwrap.dedent(begin) + textwrap.dedent(code), *arguments]
    return subprocess.run(command, env=ENVIRONMENT, check=True, capture_output=True, text=True).stdout


def upload(settings: str, folder: Path) -> None:
    code = """
        store.create_dir("bucket")
        pyarrow.fs.copy_files(sys.argv[1], "bucket/in", destination_filesystem=store)
    """
    in_store(settings, code, str(folder))


def download(settings: str, name: str, folder: Path) -> dict[str, bytes]:
    code = """
        pyarrow.fs.copy_files(f"bucket/{sys.argv[1]}", sys.argv[2], source_filesystem=store)
    """
    folder.mkdir()
    in_store(settings, code, name, str(folder))
    return {path.name: path.read_bytes() for path in folder.glob("*.csv")}


def predict(settings: str, bundle: Path, out: str) -> subprocess.Popen[str]:
    arguments = [str(bundle), f"s3://bucket/in/part-*.csv?{settings}", "--out", f"s3://bucket/{out}?{settings}"]
    command = [str(PYTHON), "-m", "bothways", "predict", *arguments, "--workers", "2"]
    return subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)


def test_files_are_scored_from_bucket_to_bucket_and_a_rerun_skips_them(
    settings: str, model: Classifier, bundle_path: Path, tmp_path: Path
) -> None:
    """Some calls are killed. Whatever is in the bucket afterwards is whole."""
    (tmp_path / "in").mkdir()
    for number in range(6):
        source = tmp_path / "in" / f"part-{number}.csv"
        source.write_text("text\n" + "".join(f'"{text} {number}"\n' for text in TEXTS), encoding="utf-8")
        bothways.score(model, source, tmp_path / f"part-{number}.csv")
    expected = {path.name: path.read_bytes() for path in tmp_path.glob("part-*.csv")}
    upload(settings, tmp_path / "in")
    for kill, timeout in enumerate((4.0, 6.0, 8.0, None)):
        with predict(settings, bundle_path, "out") as process:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout)
            process.kill()
        found = download(settings, "out", tmp_path / f"out-{kill}") if kill else {}
        assert found == {name: expected[name] for name in found}
    assert found == expected
    with predict(settings, bundle_path, "out") as again:
        assert again.stderr is not None
        message = again.stderr.read()
    assert again.returncode == 0
    assert message == f"{6 * len(TEXTS):,} rows in 6 files written to s3://bucket/out, 6 of them by an earlier call\n"


def test_what_the_store_refuses_is_one_clear_line(settings: str, bundle_path: Path) -> None:
    with predict(settings.replace("127.0.0.1:", "127.0.0.1:1"), bundle_path, "out") as process:
        assert process.stderr is not None
        message = process.stderr.read()
    assert process.returncode == 1
    assert message.startswith("bothways: error: s3://bucket/in/part-*.csv cannot be read: ")
    assert message.count("\n") == 1
