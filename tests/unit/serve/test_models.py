"""Replace models while they answer: what takes effect when, what a failure leaves in place, and what is freed."""

from __future__ import annotations

import gc
import shutil
import time
import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import bothways
from bothways.errors import BundleError, ModelUnknown, Unavailable
from bothways.runtime.verify import load_verified
from bothways.serve.bundles import parse_bundles
from bothways.serve.metrics import ServerMetrics
from bothways.serve.models import Models
from bothways.serve.settings import Settings


class Deployment:
    """Models, and the folder of the bundles ``a`` and ``b``, which are different."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.metrics = folder, ServerMetrics()
        self.models = Models((), Settings(threads=1, watch_s=0.001), self.metrics)
        self.digests = {name: bothways.load(folder / name).digest for name in "ab"}

    def start(self, *bundles: str) -> None:
        self.models.bundles = parse_bundles([bundle.replace("=", f"={self.folder}/") for bundle in bundles])
        self.models.load_all()

    def reload(self, *bundles: str) -> None:
        """Load all bundles again, as SIGHUP does."""
        named = parse_bundles([bundle.replace("=", f"={self.folder}/") for bundle in bundles])
        self.models.reload(named or self.models.bundles, only_changed=False)

    def look(self) -> None:
        """Look for changes, as the watch does."""
        self.models.reload(self.models.bundles, only_changed=True)

    @property
    def state(self) -> dict[str, tuple[str, float]]:
        """The bundle and the weight of each version that answers."""
        names = {digest: name for name, digest in self.digests.items()}
        found = self.models.served
        return {f"{s.name}@{s.version}": (names.get(s.model.digest, "?"), s.source.weight) for s in found}

    def reloads(self, result: str) -> float:
        label = f'bothways_reloads_total{{model="m",result="{result}",version="1"}} '
        page = self.metrics.render().decode()
        return float(page.partition(label)[2].partition("\n")[0] or 0)


@pytest.fixture
def deployment(bundle_path: Path, mixed_bundle_path: Path, tmp_path: Path) -> Iterator[Deployment]:
    shutil.copytree(bundle_path, tmp_path / "a")
    shutil.copytree(mixed_bundle_path, tmp_path / "b")
    found = Deployment(tmp_path)
    yield found
    found.models.close(0)


def test_a_canary_is_rolled_out_and_back(deployment: Deployment) -> None:
    deployment.start("m@v1=a")
    deployment.reload("m@v1=a:90", "m@v2=b:10")
    assert deployment.state == {"m@v1": ("a", 90), "m@v2": ("b", 10)}
    deployment.reload("m@v1=a:0", "m@v2=b:1")
    assert deployment.state == {"m@v1": ("a", 0), "m@v2": ("b", 1)}
    assert {deployment.models.choose("m", None).version for _ in range(20)} == {"v2"}
    deployment.reload("m@v1=a:1", "m@v2=b:0")
    assert {deployment.models.choose("m", None).version for _ in range(20)} == {"v1"}
    deployment.reload("m@v1=a", "m@v2=b")
    shares = Counter(deployment.models.choose("m", None).version for _ in range(400))
    assert min(shares.values()) > 100  # equal shares
    deployment.reload("m@v1=a")
    assert deployment.state == {"m@v1": ("a", 1)}
    with pytest.raises(ModelUnknown, match="Available versions: v1"):
        deployment.models.choose("m", "v2")


def test_versions_change_only_when_all_new_ones_are_verified(deployment: Deployment) -> None:
    deployment.start("m@v1=a")
    deployment.reload("m@v2=missing", "m@v3=b")
    assert deployment.state == {"m@v1": ("a", 1)}
    assert "missing" in deployment.models.problem
    assert deployment.models.choose(None, None).version == "v1"
    with pytest.raises(Unavailable):
        deployment.models.choose("m", "v2")
    deployment.reload("n=b")
    assert deployment.state == {"n@1": ("b", 1)}
    assert deployment.models.problem == ""
    deployment.reload("o=missing")
    assert deployment.state == {"n@1": ("b", 1)}  # not named any longer, but the only one that answers
    assert deployment.models.choose(None, None).name == "n"


def test_a_version_gets_no_other_share_before_its_new_bundle_is_verified(deployment: Deployment) -> None:
    """A version that was rolled back would answer all requests again, because its successor can't be loaded."""
    deployment.start("m@v1=a:1", "m@v2=b:0")
    before = deployment.state
    deployment.reload("m@v2=missing")
    assert deployment.state == before
    deployment.reload("m@v1=a:1", "m@v2=missing:5", "m@v3=a:1")
    assert deployment.state == before
    for _ in range(3):
        deployment.look()
    assert b'result="succeeded",version="v3"} 1.0' not in deployment.metrics.render()  # nor is it loaded in vain
    shutil.copytree(deployment.folder / "a", deployment.folder / "missing")
    for _ in range(3):
        deployment.look()
    assert deployment.state == {"m@v1": ("a", 1), "m@v2": ("a", 5), "m@v3": ("a", 1)}


def test_a_bad_bundle_does_not_hinder_others_from_being_replaced(deployment: Deployment) -> None:
    deployment.start("m=a", "n=a")
    deployment.reload("m=missing", "n=b")
    assert deployment.state == {"m@1": ("a", 1), "n@1": ("b", 1)}
    assert deployment.models.problem.startswith("m version 1: bundle not found: ")
    assert (deployment.reloads("failed"), deployment.reloads("succeeded")) == (1, 0)
    deployment.reload("m=b", "n=b")
    assert deployment.models.problem == ""
    assert (deployment.reloads("failed"), deployment.reloads("succeeded")) == (1, 1)
    deployment.reload("m=missing", "m@2=a", "n=b")
    assert deployment.state == {"m@1": ("b", 1), "n@1": ("b", 1)}  # the versions of a model change together


def test_a_bundle_that_is_copied_file_by_file_is_tried_until_it_is_whole(deployment: Deployment) -> None:
    """F5."""
    deployment.start("m=a")
    files = sorted((deployment.folder / "b").iterdir(), key=lambda path: path.name != "bundle.json")
    for file in (deployment.folder / "a").iterdir():
        file.unlink()
    deployment.look()
    for file in files[:-1]:  # the manifest first
        shutil.copy(file, deployment.folder / "a" / file.name)
        deployment.look()
    assert deployment.reloads("failed") == 0  # files still change, so that nothing has failed yet
    deployment.look()
    assert deployment.reloads("failed") == 1
    assert deployment.state == {"m@1": ("a", 1)}
    assert "m version 1: " in deployment.models.problem
    shutil.copy(files[-1], deployment.folder / "a" / files[-1].name)
    deployment.look()
    deployment.look()
    assert deployment.state == {"m@1": ("b", 1)}
    assert deployment.models.problem == ""
    deployment.look()
    assert deployment.reloads("succeeded") == 1  # nothing has changed since


def test_a_failure_without_a_change_is_tried_again_after_growing_pauses(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployment.start("m=a")
    now = time.monotonic()
    monkeypatch.setattr("bothways.serve.models.time.monotonic", lambda: now)
    (deployment.folder / "a" / "bundle.json").write_bytes(b"{")
    tried = []
    for second in range(200):
        now += 1
        before = deployment.reloads("failed")
        deployment.look()
        if deployment.reloads("failed") > before:
            tried.append(second)
    assert tried == [1, 2, 4, 8, 16, 32, 64, 124, 184]


def test_a_good_version_is_not_loaded_while_another_one_that_it_needs_is_bad(deployment: Deployment) -> None:
    deployment.start("m@v0=a")
    deployment.reload("m@v1=b", "m@v2=missing")
    loaded = deployment.metrics.render().count(b'result="succeeded",version="v1"} 1.0')
    for _ in range(3):
        deployment.look()
    assert deployment.state == {"m@v0": ("a", 1)}
    assert deployment.metrics.render().count(b'result="succeeded",version="v1"} 1.0') == loaded == 1
    shutil.copytree(deployment.folder / "a", deployment.folder / "missing")
    for _ in range(2):
        deployment.look()
    assert deployment.state == {"m@v1": ("b", 1), "m@v2": ("a", 1)}


def test_other_weights_take_effect_at_once_and_the_watch_loads_nothing_for_them(deployment: Deployment) -> None:
    deployment.start("m@1=a:9", "m@2=b:1")
    deployment.look()
    before = [id(version.model) for version in deployment.models.served]  # a reference would delay the last reload
    deployment.models.bundles = parse_bundles(
        [f"m@{n}={deployment.folder / name}:{n}" for n, name in ((1, "a"), (2, "b"))]
    )
    deployment.look()
    assert deployment.state == {"m@1": ("a", 1), "m@2": ("b", 2)}
    assert [id(version.model) for version in deployment.models.served] == before
    assert deployment.reloads("succeeded") == 0
    deployment.reload()
    assert deployment.reloads("succeeded") == 1  # SIGHUP loads all bundles again


def test_a_reload_needs_memory_for_one_more_model(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    deployment.start("m=a", "n=b", "o=a")
    models = [weakref.ref(served.model) for served in deployment.models.served]
    alive: list[int] = []

    def load(*arguments: object, **options: object) -> object:
        found = load_verified(*arguments, **options)  # type: ignore[arg-type]
        models.append(weakref.ref(found[0]))
        alive.append(sum(model() is not None for model in models))
        return found

    monkeypatch.setattr("bothways.serve.models.load_verified", load)
    deployment.reload("m=b", "n=a", "o=b")
    assert deployment.state == {"m@1": ("b", 1), "n@1": ("a", 1), "o@1": ("b", 1)}
    assert alive == [4, 4, 4]


def test_an_error_at_the_start_is_raised(deployment: Deployment) -> None:
    with pytest.raises(BundleError, match="bundle not found"):
        deployment.start("m=a", "n=missing")
    assert not deployment.models.is_started


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("change", [Deployment.reload, lambda d: d.reload("m@2=b"), lambda d: d.reload("n=b")])
def test_a_replaced_model_is_freed_without_the_garbage_collector(
    deployment: Deployment, change: Callable[[Deployment], None]
) -> None:
    """F10."""
    deployment.metrics.report_models(lambda: deployment.models.served)
    deployment.start("m=a")
    deployment.metrics.render()
    old = weakref.ref(deployment.models.served[0].model)
    change(deployment)
    assert old() is None
