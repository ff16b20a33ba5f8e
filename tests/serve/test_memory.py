"""Memory stays flat over reloads under load (F10)."""

from __future__ import annotations

import signal
import time
from functools import partial
from pathlib import Path

import pytest

from bothways.text.reading import Direction, SpecialTokenPlacement
from bothways.text.subword_tokenizer import SubwordTokenizer
from tests import bundles
from tests.serve.conftest import RunningServer, running
from tests.serve.test_abuse import eventually, resident_kib
from tests.serve.test_operations import Load

pytestmark = pytest.mark.enable_socket
SIZES = {"WIDTH_EMBEDDING": 200, "WIDTH_HIDDEN": 600, "LAYERS": 3}


@pytest.fixture(scope="module")
def large_bundle_path(tiny_tokenizer: SubwordTokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of 40 MB, so that a model that is kept would be seen."""
    path = tmp_path_factory.mktemp("large") / "large.bundle"
    with pytest.MonkeyPatch.context() as patch:
        for name, size in SIZES.items():
            patch.setattr(bundles, name, size)
        patch.setattr(bundles, "_randomize", lambda *_: None)  # weights this large would make the network chaotic
        placements = dict.fromkeys(Direction, SpecialTokenPlacement.READING_ORDER)
        bundles.write_classifiers(path, bundles.make_classifiers(tiny_tokenizer, placements))
    return path


@pytest.mark.parametrize(
    "reloads", [pytest.param(5, marks=pytest.mark.server), pytest.param(50, marks=pytest.mark.soak)]
)
def test_memory_is_flat_over_reloads_under_load(reloads: int, large_bundle_path: Path, tmp_path: Path) -> None:
    model_kib = sum(file.stat().st_size for file in large_bundle_path.iterdir()) / 1024
    with running(f"m={large_bundle_path}", "--threads", 1, folder=tmp_path) as server:
        with Load(server, clients=3) as load:
            sizes: list[int] = []
            for number in range(1, reloads + 3):
                server.process.send_signal(signal.SIGHUP)
                eventually(partial(_has_reloaded, server, number), within_s=120)
                if number > 2:  # the old model answers what it accepted, and is freed
                    eventually(partial(_is_below, server, max(sizes[:2]) + model_kib), within_s=60)
                else:
                    time.sleep(5)
                sizes.append(resident_kib(server))
        assert server.stop() == 0
    print(f"\n{reloads} reloads of a model of {model_kib / 1024:.0f} MiB: {[round(kib / 1024) for kib in sizes]} MiB")
    assert (load.lost, set(load.statuses)) == ([], {200})


def _is_below(server: RunningServer, limit_kib: float) -> bool:
    return resident_kib(server) < limit_kib


def _has_reloaded(server: RunningServer, number: int) -> bool:
    return server.log_text.count("reloaded m version 1") == number
