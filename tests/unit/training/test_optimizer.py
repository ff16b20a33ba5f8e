from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from bothways.training.optimizer import Schedule, StageOptimizer, rate_factor

SCHEDULES: list[Schedule] = ["slanted-triangular", "one-cycle"]


def an_optimizer(groups: list[nn.Module], **changes: object) -> StageOptimizer:
    options: dict[str, object] = {
        "unfrozen": len(groups),
        "steps": 10,
        "schedule": "one-cycle",
        "learning_rate": 0.1,
        "layer_decay": 2.0,
        "weight_decay": 0.0,
        "max_gradient_norm": 1.0,
        **changes,
    }
    return StageOptimizer(groups, **options)  # type: ignore[arg-type]


def three_groups() -> list[nn.Module]:
    torch.manual_seed(0)
    return [nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3)]


def loss_of(groups: list[nn.Module]) -> torch.Tensor:
    values = torch.ones(2, 3)
    for group in groups:
        values = group(values)
    return values.pow(2).sum()


def copies(groups: list[nn.Module]) -> list[list[torch.Tensor]]:
    return [[p.detach().clone() for p in group.parameters()] for group in groups]


def has_changed(before: list[torch.Tensor], group: nn.Module) -> bool:
    return any(not torch.equal(old, new) for old, new in zip(before, group.parameters(), strict=True))


# Schedules.


def test_slanted_triangles_rise_for_a_tenth_and_fall_to_a_thirty_second() -> None:
    points = {0.0: 1 / 32, 0.05: (1 + 31 / 2) / 32, 0.1: 1.0, 0.55: (1 + 31 / 2) / 32, 1.0: 1 / 32}
    for progress, expected in points.items():
        assert rate_factor("slanted-triangular", progress) == pytest.approx(expected)


def test_one_cycle_rises_from_a_25th_for_a_quarter_and_falls_to_nearly_nothing() -> None:
    points = {0.0: 1 / 25, 0.125: (1 + 1 / 25) / 2, 0.25: 1.0, 0.625: (1 + 1e-3) / 2, 1.0: 1e-3}
    for progress, expected in points.items():
        assert rate_factor("one-cycle", progress) == pytest.approx(expected)


@pytest.mark.parametrize(("schedule", "peak"), [("slanted-triangular", 0.1), ("one-cycle", 0.25)])
@given(st.data())
def test_rates_only_rise_before_the_peak_and_only_fall_after_it(
    schedule: Schedule, peak: float, data: st.DataObject
) -> None:
    low, high = sorted((data.draw(st.floats(0, 1)), data.draw(st.floats(0, 1))))
    before, after = rate_factor(schedule, low), rate_factor(schedule, high)
    assert 0 < before <= 1 + 1e-12
    if high <= peak:
        assert before <= after + 1e-12
    if low >= peak:
        assert after <= before + 1e-12


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_stage_takes_each_step_at_the_rate_of_its_schedule(schedule: Schedule) -> None:
    groups = three_groups()
    optimizer = an_optimizer(groups, schedule=schedule, steps=20)
    rates = [optimizer.step(loss_of(groups)).learning_rate for _ in range(20)]
    assert rates == pytest.approx([0.1 * rate_factor(schedule, step / 20) for step in range(1, 21)])


def test_more_steps_than_were_expected_go_on_at_the_last_rate() -> None:
    groups = three_groups()
    optimizer = an_optimizer(groups, steps=2)
    rates = [optimizer.step(loss_of(groups)).learning_rate for _ in range(4)]
    assert rates[1] == rates[2] == rates[3]


# Layer groups.


def test_each_group_learns_more_slowly_than_the_one_above() -> None:
    parameters = [nn.Linear(1, 1, bias=False) for _ in range(3)]
    groups: list[nn.Module] = [*parameters]
    before = [p.weight.item() for p in parameters]
    optimizer = an_optimizer(groups, steps=1, schedule="slanted-triangular", max_gradient_norm=1e9)
    rate, _ = optimizer.step(sum((p.weight.sum() for p in parameters), torch.zeros(())))
    # Adam's first step is as long as its rate, whatever the gradient.
    steps = [old - p.weight.item() for old, p in zip(before, parameters, strict=True)]
    assert rate == pytest.approx(0.1 / 32)
    assert steps == pytest.approx([rate / 4, rate / 2, rate], rel=1e-3)


@pytest.mark.parametrize("unfrozen", [1, 2, 3])
def test_frozen_groups_stay_as_they_are_and_others_learn(unfrozen: int) -> None:
    groups = three_groups()
    before = copies(groups)
    optimizer = an_optimizer(groups, unfrozen=unfrozen, weight_decay=0.1)
    for _ in range(3):
        optimizer.step(loss_of(groups))
    changed = [has_changed(old, group) for old, group in zip(before, groups, strict=True)]
    assert changed == [False] * (3 - unfrozen) + [True] * unfrozen


def test_the_next_stage_unfreezes_what_the_last_one_froze() -> None:
    groups = three_groups()
    an_optimizer(groups, unfrozen=1)
    before = copies(groups)
    an_optimizer(groups, unfrozen=3).step(loss_of(groups))
    assert all(has_changed(old, group) for old, group in zip(before, groups, strict=True))


def test_gradients_are_clipped_to_their_norm() -> None:
    layer = nn.Linear(2, 1)
    optimizer = an_optimizer([layer], max_gradient_norm=0.5)
    optimizer.step(1000 * layer(torch.ones(1, 2)).sum())
    gradients = [p.grad.flatten() for p in layer.parameters() if p.grad is not None]
    assert torch.cat(gradients).norm().item() == pytest.approx(0.5, rel=1e-4)


def test_weight_decay_pulls_towards_zero_without_a_gradient() -> None:
    layer = nn.Linear(1, 1, bias=False)
    nn.init.ones_(layer.weight)
    optimizer = an_optimizer([layer], weight_decay=0.5, steps=1)
    rate, _ = optimizer.step(0 * layer.weight.sum())
    assert layer.weight.item() == pytest.approx(1 - 0.5 * rate)
