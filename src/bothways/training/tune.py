"""``bothways.tune``: try hyperparameters within a time budget, and keep the best model.

In: labeled rows, a time budget, and options of a training. Out: the bundle with the lowest validation loss, and its
hyperparameters as a file for ``--config``. The search is Optuna's (Akiba et al. 2019). Each trial is an ordinary
training, so that all of it continues after an interruption (guarantee 7).
"""

from __future__ import annotations

import os
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from bothways import strict_json
from bothways.arguments import as_duration, as_flag, as_integer, as_path, checked, optional, seconds_of
from bothways.bundle.parity import ENSEMBLE
from bothways.data.tables import TableSource
from bothways.errors import (
    ConfigError,
    DependencyMissing,
    NoBetterThanConstant,
    TrainingDiverged,
    TrainingError,
    path_text,
)
from bothways.files import replace_file, writing_failed
from bothways.runtime.classifier import Classifier, load
from bothways.terminal import SafeConsole
from bothways.training.api import train
from bothways.training.launch import require_torch

BEST_BUNDLE, BEST_CONFIG, TRIALS_FILE = "best.bundle", "best.toml", "trials.jsonl"
_SETTINGS_FILE = "tune.json"
_RANDOM_TRIALS = 6
"""Trials before the search learns from them."""
_RANGES: dict[str, tuple[float, float]] = {
    "language_model.learning_rate": (1e-3, 1e-2),
    "classifier.learning_rate": (1e-3, 3e-2),
    "classifier.dropout_multiplier": (0.05, 1.0),
    "classifier.target_texts": (5_000, 40_000),
    "classifier.label_smoothing": (0.0, 0.2),
}
"""Hyperparameters that are searched, with their smallest and largest values."""
_LOGARITHMIC = frozenset(_RANGES) - {"classifier.label_smoothing"}
_INTEGERS = frozenset({"classifier.target_texts"})


@dataclass(frozen=True)
class Trial:
    """A training with certain hyperparameters.

    Attributes:
        number: Its number, from 1. The first one has the defaults.
        hyperparameters: Values by ``section.key``. Those that are not named have their defaults.
        metrics: Validation metrics of the ensemble. Empty if training failed.
        seconds: How long it took, without what an earlier call did of it.
        error: Why it failed; None if it did not.
    """

    number: int
    hyperparameters: dict[str, float]
    metrics: dict[str, float]
    seconds: float
    error: str | None = None

    @property
    def loss(self) -> float:
        """Validation loss; infinite if training failed."""
        return self.metrics.get("loss", float("inf"))


@dataclass(frozen=True)
class Tuning:
    """The trials of a search.

    Attributes:
        trials: All complete trials, in their order.
        best: The one with the lowest validation loss.
        bundle: Its bundle.
        config: A TOML file with its hyperparameters.
    """

    trials: tuple[Trial, ...]
    best: Trial
    bundle: Path
    config: Path


@checked(out=as_path, time_budget=as_duration, most_trials=optional(as_integer), seed=as_integer, progress=as_flag)
def tune(
    data: TableSource | Sequence[object],
    labels: Sequence[object] | None = None,
    *,
    out: str | os.PathLike[str],
    time_budget: str,
    most_trials: int | None = None,
    config: str | os.PathLike[str] | Mapping[str, object] | None = None,
    seed: int = 0,
    progress: bool = True,
    **training: Any,
) -> Tuning:
    """Train with several hyperparameters, and keep the model with the lowest validation loss.

    The first trial has the defaults, so the best one is never worse than they are on the validation rows. These are the
    same for all trials and choose among them, so the metrics of the best trial are slightly optimistic. No trial begins
    that would probably exceed the budget. The same call continues where an interrupted one stopped, and a call with a
    larger budget adds trials.

    Args:
        data: Labeled rows, as for ``train``.
        labels: Labels of a list of texts, or the names of columns of 0 and 1, as for ``train``.
        out: Folder for the best bundle, its hyperparameters and a file with all trials.
        time_budget: Time of this call, such as ``90m`` or ``1h30m``. The first trial is trained in any case.
        most_trials: Largest number of trials, 1 or more. Defaults to no limit.
        config: Hyperparameters of all trials, as for ``train``. Those that it names are not searched.
        seed: Random seed of the search and of all trainings, 0..4294967295.
        progress: Show progress on standard error.
        training: Further options of ``train``, such as ``text``, ``label``, ``valid`` and ``pretrained``.

    Raises:
        ConfigError: An option is invalid, or ``out`` has trials of other options.
        DependencyMissing: Optuna is not installed, or the libraries for training are not.
        TrainingError: No trial trained a model.
        BothwaysError: See ``train``.
    """
    if most_trials is not None and most_trials < 1:
        raise ConfigError(f"most_trials is {most_trials}, expected 1 or more")
    if refused := sorted(set(training) & {"plot", "log_to"}):
        raise ConfigError(f"{refused[0]} cannot be combined with tune, which trains many times")
    optuna_ = _optuna()
    require_torch()
    from bothways.training.hyperparameters import sections_of  # noqa: PLC0415  (needs torch)

    stated = sections_of(config)
    options = {**training, "seed": seed, "progress": progress}
    search = _Search(Path(out), optuna_, stated, seed, SafeConsole(file=sys.stderr) if progress else None)
    search.claim({**training, "seed": seed, "config": stated, "data": data if isinstance(data, str | Path) else ""})
    return search.run(partial(train, data, labels, **options), seconds_of(time_budget), most_trials)


def _optuna() -> Any:
    try:
        import optuna  # noqa: PLC0415  (an extra)
    except ImportError:
        raise DependencyMissing("tuning needs Optuna: pip install 'bothways[tune]'") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


class _Search:
    """The trials in a folder.

    Each trial is chosen by a sampler of its own, whose seed is the trial's number. So a call that was killed chooses
    the same trial again, and its training continues.
    """

    def __init__(
        self,
        folder: Path,
        optuna: Any,
        stated: Mapping[str, Mapping[str, object]],
        seed: int,
        console: SafeConsole | None,
    ) -> None:
        self._folder, self._optuna, self._stated, self._seed, self._console = folder, optuna, stated, seed, console
        self._ranges = {name: of for name, of in _RANGES.items() if _is_searched(name, stated)}

    def claim(self, options: Mapping[str, object]) -> None:
        """Create the folder, and record what its trials have in common.

        Raises:
            ConfigError: It has trials of other options, or is not a folder of trials.
        """
        content = strict_json.dump({name: str(value) for name, value in sorted(options.items())}).encode()
        path = self._folder / _SETTINGS_FILE
        try:
            self._folder.mkdir(exist_ok=True)
            if not path.exists() and any(self._folder.iterdir()):
                raise ConfigError(f"{path_text(self._folder)} exists and has no trials: choose another --out")
            if not path.exists() or path.read_bytes() != content:
                if (self._folder / TRIALS_FILE).exists():
                    raise ConfigError(f"{path_text(self._folder)} has trials of other options: choose another --out")
                replace_file(path, content)
        except OSError as error:
            raise writing_failed(self._folder, error, is_output=True) from None

    def run(self, train_with: Callable[..., Classifier], seconds: float, most_trials: int | None) -> Tuning:
        """Train until the budget is spent, and return all trials.

        Args:
            train_with: Trains with the options ``config`` and ``out``.
            seconds: The budget.
            most_trials: Largest number of trials.
        """
        began, trials = time.monotonic(), self._finished()
        while not trials or (
            seconds - (time.monotonic() - began) >= statistics.mean(trial.seconds for trial in trials)
            and (most_trials is None or len(trials) < most_trials)
        ):
            trials.append(self._trained(train_with, len(trials) + 1, self._chosen(trials)))
            content = "".join(strict_json.dump(asdict(trial)) + "\n" for trial in trials)
            replace_file(self._folder / TRIALS_FILE, content.encode())
            self._keep_best(trials)
        best = min(trials, key=lambda trial: trial.loss)
        if best.error is not None:
            raise TrainingError(f"none of {len(trials)} trials trained a model. The last error: {trials[-1].error}")
        return Tuning(tuple(trials), best, self._folder / BEST_BUNDLE, self._folder / BEST_CONFIG)

    def _finished(self) -> list[Trial]:
        """Return the trials of earlier calls."""
        path = self._folder / TRIALS_FILE
        if not path.exists():
            return []
        trials = [Trial(**strict_json.parse(line)) for line in path.read_bytes().splitlines()]  # type: ignore[arg-type]
        self._keep_best(trials)
        return trials

    def _chosen(self, trials: Sequence[Trial]) -> dict[str, float]:
        """Return the hyperparameters of the next trial. The first one has the defaults."""
        if not trials:
            return {}
        of = self._optuna.distributions
        distributions = {
            name: of.IntDistribution(int(low), int(high), log=True)
            if name in _INTEGERS
            else of.FloatDistribution(low, high, log=name in _LOGARITHMIC)
            for name, (low, high) in self._ranges.items()
        }
        sampler = self._optuna.samplers.TPESampler(seed=self._seed + len(trials), n_startup_trials=_RANDOM_TRIALS)
        study = self._optuna.create_study(sampler=sampler)
        for trial in trials:
            if trial.hyperparameters and trial.error is None:
                study.add_trial(
                    self._optuna.trial.create_trial(
                        params=trial.hyperparameters, distributions=distributions, value=trial.loss
                    )
                )
        found: dict[str, float] = study.ask(distributions).params
        return {name: value if name in _INTEGERS else float(f"{value:.3g}") for name, value in found.items()}

    def _trained(self, train_with: Callable[..., Classifier], number: int, values: dict[str, float]) -> Trial:
        """Train with these hyperparameters."""
        if self._console is not None:
            named = ", ".join(f"{name} {value:g}" for name, value in values.items()) or "the defaults"
            self._console.print(f"trial {number}: {named}")
        began, bundle = time.monotonic(), self._bundle(number)
        try:
            published = bundle.exists()  # by a call that was killed before it recorded the trial
            model = load(bundle) if published else train_with(config=self._config(values), out=bundle)
        except (NoBetterThanConstant, TrainingDiverged) as error:
            return Trial(number, values, {}, time.monotonic() - began, str(error))
        metrics = dict(model.manifest.training.validation[ENSEMBLE])
        return Trial(number, values, metrics, time.monotonic() - began)

    def _config(self, values: Mapping[str, float]) -> dict[str, dict[str, object]]:
        sections: dict[str, dict[str, object]] = {name: dict(keys) for name, keys in self._stated.items()}
        for name, value in values.items():
            sections.setdefault(_section(name), {})[_key(name)] = value
        return sections

    def _bundle(self, number: int) -> Path:
        return self._folder / f"trial-{number}.bundle"

    def _keep_best(self, trials: Sequence[Trial]) -> None:
        """Keep the best bundle and its hyperparameters, and remove the others. A killed call does this again."""
        from bothways.training.run_folder import run_folder  # noqa: PLC0415  (needs torch)

        best = min(trials, key=lambda trial: trial.loss)
        if self._bundle(best.number).exists():
            shutil.rmtree(self._folder / BEST_BUNDLE, ignore_errors=True)
            lines = [f"# Trial {best.number} of bothways tune, validation loss {best.loss:.4f}"]
            for section, keys in self._config(best.hyperparameters).items():
                lines += [f"[{section}]", *(f"{key} = {_toml(value)}" for key, value in keys.items())]
            replace_file(self._folder / BEST_CONFIG, ("\n".join(lines) + "\n").encode())
            self._bundle(best.number).rename(self._folder / BEST_BUNDLE)
        for trial in trials:
            for made in (self._bundle(trial.number), run_folder(self._bundle(trial.number))):
                shutil.rmtree(made, ignore_errors=True)


def _is_searched(name: str, stated: Mapping[str, Mapping[str, object]]) -> bool:
    """Return whether a hyperparameter is not stated, and has an effect beside those that are."""
    section, key = _section(name), _key(name)
    epochs = stated.get(section, {}).get("epochs", "auto")
    has_effect = epochs == "auto" if key == "target_texts" else epochs != 0
    return has_effect and key not in stated.get(section, {})


def _section(name: str) -> str:
    return name.split(".", maxsplit=1)[0]


def _key(name: str) -> str:
    return name.split(".")[1]


def _toml(value: object) -> str:
    """Return a value as TOML holds it, which for numbers, strings and flat tables is JSON but for the tables."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{strict_json.dump(str(key))} = {_toml(each)}" for key, each in value.items()) + " }"
    return strict_json.dump(value)
