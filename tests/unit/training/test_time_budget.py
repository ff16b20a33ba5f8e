"""A time budget: the epochs fit into it, a longer one never has fewer, and what the user stated is kept."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bothways.errors import ConfigError
from bothways.training.estimate import ClassifierCost
from bothways.training.hyperparameters import Hyperparameters, load_hyperparameters
from bothways.training.time_budget import Cost, fitted, refuse_stated_epochs, shortest, training_seconds

seconds = st.floats(0.001, 1e5)
costs = st.builds(
    Cost,
    language_model_epoch=seconds,
    tokens=st.integers(100, 10_000_000),
    classifier=st.builds(
        ClassifierCost, of_epoch=seconds, of_validation=seconds, groups=st.integers(3, 6), texts=st.integers(10, 10**6)
    ),
)
stated = st.sampled_from(
    [
        {},
        {"language_model": {"epochs": 2.5}},
        {"classifier": {"epochs": 7}},
        {"classifier": {"unfreezing_epochs": 2}},
        {"language_model": {"epochs": 0}, "classifier": {"unfreezing_epochs": 0}},
    ]
)


def epochs_of(hyperparameters: Hyperparameters, cost: Cost) -> tuple[float, int, int]:
    classifier = hyperparameters.classifier
    language_model = hyperparameters.language_model.epochs_for(cost.tokens)
    return language_model, classifier.epochs_for(cost.classifier.texts), classifier.unfreezing_epochs


@given(costs, stated, st.floats(0, 1e6))
def test_what_is_chosen_fits_and_is_never_more_than_without_a_budget(
    cost: Cost, config: dict[str, dict[str, float]], budget: float
) -> None:
    whole = load_hyperparameters("small", config)
    found, share = fitted(whole, cost, budget)
    if not share:
        assert cost.seconds(whole) > budget
        return
    assert cost.seconds(found) <= budget * (1 + 1e-9)
    assert all(few <= many for few, many in zip(epochs_of(found, cost), epochs_of(whole, cost), strict=True))
    assert epochs_of(found, cost)[1] >= 1
    for section, keys in config.items():
        for key, value in keys.items():
            assert getattr(getattr(found, section), key) == value
    if cost.seconds(whole) <= budget:
        assert found == whole


@given(costs, stated, st.floats(0, 1e6), st.floats(1, 10))
def test_a_longer_budget_has_no_fewer_epochs(
    cost: Cost, config: dict[str, dict[str, float]], budget: float, factor: float
) -> None:
    whole = load_hyperparameters("small", config)
    (short, share), (longer, larger) = fitted(whole, cost, budget), fitted(whole, cost, factor * budget)
    assert larger >= share
    if share:
        assert all(few <= many for few, many in zip(epochs_of(short, cost), epochs_of(longer, cost), strict=True))


@given(costs, stated)
def test_the_shortest_budget_fits_and_a_clearly_shorter_one_does_not(
    cost: Cost, config: dict[str, dict[str, float]]
) -> None:
    whole = load_hyperparameters("small", config)
    needed = shortest(whole, cost)
    assert fitted(whole, cost, training_seconds(needed) * (1 + 1e-9))[1] > 0
    if needed > 60:  # of which the reserve is a tenth
        assert fitted(whole, cost, training_seconds(0.95 * needed))[1] == 0


def test_epochs_of_both_stages_leave_nothing_to_choose() -> None:
    config = {"language_model": {"epochs": 2}, "classifier": {"epochs": 3}}
    with pytest.raises(ConfigError, match=r"language_model.epochs and classifier.epochs are both stated"):
        refuse_stated_epochs(load_hyperparameters("small", config))
    refuse_stated_epochs(load_hyperparameters("small", {"classifier": {"epochs": 3}}))
