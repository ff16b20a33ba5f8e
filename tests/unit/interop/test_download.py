"""The published models are downloaded once, from a real server, and kept only if size and checksum match."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bothways.errors import ForeignModelError
from bothways.interop import download
from bothways.interop.download import PUBLISHED, PublishedFile, fetch, fetch_published

pytestmark = pytest.mark.enable_socket

CONTENT = bytes(range(256)) * 4096
MD5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()


class Server:
    """A local server that responds according to its ``answer`` and counts requests."""

    def __init__(self) -> None:
        self.requests = 0
        self.answer = "whole"
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.requests += 1
                if outer.answer == "missing":
                    self.send_error(404)
                    return
                content = {"other": CONTENT[::-1], "endless": CONTENT * 20}.get(outer.answer, CONTENT)
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                with contextlib.suppress(ConnectionError):  # who asked may have heard enough
                    self.wfile.write(content[: len(content) // 2] if outer.answer == "cut" else content)

            def log_message(self, *_: object) -> None:
                pass

        self._http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_port}/wt103-fwd.tgz"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.close()


def published(server: Server) -> PublishedFile:
    return PublishedFile(server.url, len(CONTENT), MD5)


def test_a_file_is_downloaded_once_and_then_read_from_the_cache(server: Server, tmp_path: Path) -> None:
    target = tmp_path / "cache" / "deep" / "wt103-fwd.tgz"
    for _ in range(2):
        assert fetch(published(server), target) == target
        assert target.read_bytes() == CONTENT
    assert server.requests == 1
    assert [path.name for path in target.parent.iterdir()] == ["wt103-fwd.tgz"]


def test_a_damaged_file_in_the_cache_is_fetched_again(server: Server, tmp_path: Path) -> None:
    for damaged in (CONTENT[:-1], CONTENT[:-1] + b"x"):
        (tmp_path / "x.tgz").write_bytes(damaged)
        assert fetch(published(server), tmp_path / "x.tgz").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ("missing", "can't be downloaded .*: download it by other means and pass the path"),
        ("cut", "bytes with the MD5|can't be downloaded"),
        ("other", "was cut short or is not the published file"),
        ("endless", "was cut short or is not the published file"),
    ],
)
def test_a_file_other_than_the_published_one_is_not_kept(
    server: Server, tmp_path: Path, answer: str, message: str
) -> None:
    server.answer = answer
    with pytest.raises(ForeignModelError, match=message):
        fetch(published(server), tmp_path / "x.tgz")
    assert list(tmp_path.iterdir()) == []


def test_an_unreachable_server_is_reported(tmp_path: Path) -> None:
    nowhere = PublishedFile("http://127.0.0.1:9/x.tgz", 1, MD5)
    with pytest.raises(ForeignModelError, match=r"127\.0\.0\.1:9/x\.tgz can't be downloaded"):
        fetch(nowhere, tmp_path / "x.tgz")


def test_a_name_is_fetched_into_the_users_cache(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setitem(download.PUBLISHED, "wt103-fwd", published(server))
    assert fetch_published("wt103-fwd") == tmp_path / "bothways" / "wt103-fwd.tgz"


def test_the_published_files_are_those_of_fastai() -> None:
    """Address, size and checksum as in fastai 1.0.61, ``datasets.py``."""
    assert {name: (file.size_bytes, file.md5) for name, file in PUBLISHED.items()} == {
        "wt103-fwd": (105_067_061, "7d1114cd9684bf9d1ca3c9f6a54da6f9"),
        "wt103-bwd": (105_205_312, "20b06f5830fd5a891d21044c28d3097f"),
    }
    assert all(file.url.startswith("https://s3.amazonaws.com/fast-ai-modelzoo/wt103-") for file in PUBLISHED.values())
