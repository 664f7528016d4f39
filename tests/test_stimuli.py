"""Stimuli made to order: projections, gradients on the constraint set, ascents against closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from nissl.comparison import (
    Clip,
    Constraint,
    FixedContrast,
    L2Ball,
    laplacian_penalty,
    noise_stimuli,
    optimise_stimuli,
)
from nissl.comparison.stimuli import _blurred
from nissl.errors import InputError, ModelError

CANVAS = (2, 6, 5)
CONSTRAINTS = [
    L2Ball(3.0),
    L2Ball(3.0, fixed=False),
    Clip(-0.5, 0.7),
    Clip((-0.5, -1.0), (0.7, 0.2)),
    FixedContrast(0.3, 0.6),
    FixedContrast(-0.1, 0.4, per_channel=True),
    L2Ball(3.0) & Clip(-0.9, 0.9),
    FixedContrast(0.5, 0.2) & Clip(0.0, 1.0),
]


@pytest.mark.parametrize("constraint", CONSTRAINTS, ids=str)
@settings(deadline=None, max_examples=15)
@given(scale=st.floats(0.1, 20), shift=st.floats(-2, 2), seed=st.integers(0, 99))
def test_projection_fulfils_and_stays(constraint: Constraint, scale: float, shift: float, seed: int) -> None:
    x = scale * torch.randn(4, *CANVAS, generator=torch.Generator().manual_seed(seed)) + shift
    projected = x
    for _ in range(20):
        projected = constraint.project(projected)
    assert (constraint.violation(projected) < 2e-3).all()
    torch.testing.assert_close(constraint.project(projected), projected, rtol=5e-3, atol=5e-3)


def test_violation_sees_what_is_not_allowed() -> None:
    x = torch.ones(1, *CANVAS)
    assert (L2Ball(1.0).violation(x) > 1).all()
    assert (Clip(-1.0, 0.5).violation(x) > 0.3).all()
    assert (FixedContrast(1.0, 1.0).violation(x) > 0.5).all()
    assert L2Ball(100.0, fixed=False).violation(x).item() == 0


def test_contrast_and_mean_are_numpys() -> None:
    x = FixedContrast(0.3, 0.6).project(torch.randn(3, *CANVAS)).numpy().reshape(3, -1)
    np.testing.assert_allclose(x.mean(1), 0.3, atol=1e-5)
    np.testing.assert_allclose(x.std(1), 0.6, rtol=1e-5)


@pytest.mark.parametrize(
    "constraint", [L2Ball(3.0), FixedContrast(0.3, 0.6), FixedContrast(0.1, 0.4, per_channel=True)], ids=str
)
def test_tangent_is_the_gradient_through_the_projection(constraint: Constraint) -> None:
    """On the set, the gradient of f(project(x)) by x is the tangential part of the gradient of f."""
    x = constraint.project(torch.randn(3, *CANVAS, dtype=torch.float64))
    weight = torch.randn(3, *CANVAS, dtype=torch.float64)
    free = x.clone().requires_grad_()
    (constraint.project(free) * weight).sum().backward()
    torch.testing.assert_close(constraint.tangent(x, weight), free.grad)


def test_tangent_of_inner_points_and_of_bounds() -> None:
    g = torch.randn(2, *CANVAS)
    torch.testing.assert_close(L2Ball(100.0, fixed=False).tangent(torch.randn(2, *CANVAS), g), g)
    x = torch.zeros(1, 3)
    x[0, 0], x[0, 1] = 1.0, -1.0
    assert Clip(-1.0, 1.0).tangent(x, torch.tensor([[2.0, 2.0, 2.0]])).tolist() == [[0.0, 2.0, 2.0]]


@pytest.mark.parametrize("optimiser", ["adam", "sgd"])
@pytest.mark.parametrize("fixed", [True, False])
def test_linear_objective_on_a_ball_ends_at_the_filter(optimiser: str, fixed: bool) -> None:
    """The optimum of w.x under |x| = r is r w / |w|; an ascent per pixel without tangents ends at sign(w), cosine 0.8."""
    w = torch.randn(5, 64, generator=torch.Generator().manual_seed(1))
    ball = L2Ball(2.0, fixed=fixed)
    found = optimise_stimuli(
        lambda x, which: (x * w[which]).sum(1),
        noise_stimuli(5, (64,), ball),
        ball,
        steps=150,
        optimiser=optimiser,
        learning_rate=0.3,
    )
    assert (torch.cosine_similarity(found.stimuli, w) > 0.999).all()
    torch.testing.assert_close(found.objective, 2 * w.norm(dim=1), rtol=1e-3, atol=0)


def test_linear_objective_in_a_box_ends_in_its_corner() -> None:
    w = torch.randn(3, 20)
    box = Clip(-1.0, 2.0)
    found = optimise_stimuli(lambda x, which: (x * w[which]).sum(1), noise_stimuli(3, (20,), box), box, steps=200)
    torch.testing.assert_close(found.stimuli, torch.where(w > 0, 2.0, -1.0))


def test_ball_and_box_together_beat_random_search() -> None:
    w = torch.linspace(0.1, 3, 30)
    both = L2Ball(3.0) & Clip(-0.8, 0.8)
    found = optimise_stimuli(lambda x, which: x @ w, noise_stimuli(1, (30,), both), both, steps=300)
    assert both.violation(found.stimuli).item() < 2e-3
    # Exact: the largest weights at the bound, the others in proportion to their weights, until the norm is used up.
    best = -np.inf
    for m in range(30):
        rest, room = w[: 30 - m].double().numpy(), 9 - 0.64 * m
        if room > 0 and (rest * np.sqrt(room) / np.linalg.norm(rest)).max() <= 0.8:
            best = max(best, 0.8 * w[30 - m :].sum().item() + np.sqrt(room) * np.linalg.norm(rest))
    assert 0.99 * best < found.objective.item() < 1.002 * best


def test_units_of_the_objective_do_not_matter() -> None:
    w, ball = torch.randn(1, 12), L2Ball(1.0)
    runs = [
        optimise_stimuli(
            lambda x, which, f=f: f * ((x @ w.T)[:, 0] - x.pow(4).sum(1)), noise_stimuli(1, (12,), ball), ball, steps=20
        )
        for f in (1.0, 1e-4, 1e4)
    ]
    for other in runs[1:]:
        torch.testing.assert_close(other.stimuli, runs[0].stimuli, rtol=1e-3, atol=1e-3)


def test_stimuli_of_a_batch_do_not_touch_each_other() -> None:
    w, ball = torch.randn(4, 10), L2Ball(1.0)
    start = noise_stimuli(4, (10,), ball)

    def objective(x: torch.Tensor, which: torch.Tensor) -> torch.Tensor:
        return (x * w[which]).sum(1).tanh() - x.pow(3).sum(1)

    together = optimise_stimuli(objective, start, ball, steps=30, learning_rate=0.1)
    chunked = optimise_stimuli(objective, start, ball, steps=30, learning_rate=0.1, batch_size=3)
    torch.testing.assert_close(together.stimuli, chunked.stimuli)
    for i in range(4):
        alone = optimise_stimuli(
            lambda x, which, i=i: objective(x, which + i), start[i : i + 1], ball, steps=30, learning_rate=0.1
        )
        torch.testing.assert_close(alone.stimuli[0], together.stimuli[i], rtol=1e-4, atol=1e-5)


def test_objective_is_that_of_the_best_stimulus_seen() -> None:
    found = optimise_stimuli(lambda x, which: -x.square().sum(1).cos(), torch.randn(6, 4), steps=40, learning_rate=2.0)
    torch.testing.assert_close(found.objective, -found.stimuli.square().sum(1).cos())
    torch.testing.assert_close(found.objective, torch.where(found.history.isnan(), -torch.inf, found.history).amax(0))


def test_an_ascent_that_does_not_rise_stops_by_itself() -> None:
    """One objective has risen as far as it can; the other goes on rising."""

    def objective(x: torch.Tensor, which: torch.Tensor) -> torch.Tensor:
        return torch.where(which == 0, 0 * x.sum(1), x.sum(1))

    found = optimise_stimuli(objective, torch.randn(2, 3), steps=60, patience=7)
    assert found.steps.tolist() == [7, 60]
    assert found.history[:, 0].isnan().sum() > 40


def test_blur_is_scipys_gaussian() -> None:
    x = torch.zeros(1, 1, 21, 21, dtype=torch.float64)
    x[0, 0, 10, 10] = 1
    expected = ndimage.gaussian_filter(x[0, 0].numpy(), 1.5, truncate=10 / 3 + 0.01, mode="constant")
    np.testing.assert_allclose(_blurred(x, 1.5)[0, 0].numpy(), expected, atol=2e-4)


def test_laplacian_penalty_is_scipys_and_smooths() -> None:
    x = torch.randn(2, 3, 9, 8, dtype=torch.float64)
    kernel = np.array([[0.25, 0.5, 0.25], [0.5, -3, 0.5], [0.25, 0.5, 0.25]])
    for picture, value in zip(x.numpy(), laplacian_penalty(x), strict=True):
        inner = [ndimage.convolve(plane, kernel)[1:-1, 1:-1] for plane in picture]
        assert value.item() == pytest.approx(np.square(inner).mean())
    w, ball = torch.randn(1, 1, 9, 9), L2Ball(2.0)
    rough, smooth = (
        optimise_stimuli(
            lambda x, which: (x * w).flatten(1).sum(1), noise_stimuli(1, (1, 9, 9), ball), ball, smoothness=s
        ).stimuli
        for s in (0.0, 30.0)
    )
    assert laplacian_penalty(smooth) < 0.5 * laplacian_penalty(rough)


@pytest.mark.parametrize(
    ("constraint", "message"),
    [
        (L2Ball(100.0) & Clip(-0.1, 0.1), "no stimulus"),
        (FixedContrast(2.0, 0.1) & Clip(0.0, 1.0), "no stimulus"),
        (L2Ball(-1.0), "positive"),
        (Clip(1.0, -1.0), "below"),
        (Clip(float("nan"), 1.0), "below"),
        (Clip((0.0, 0.0, 0.0), 1.0), "channels"),
        (FixedContrast(0.0, 0.0), "positive"),
    ],
    ids=str,
)
def test_constraints_that_nothing_can_fulfil(constraint: Constraint, message: str) -> None:
    with pytest.raises(InputError, match=message):
        noise_stimuli(2, CANVAS, constraint)


def test_objectives_that_cannot_be_climbed() -> None:
    x = torch.randn(2, 4)
    with pytest.raises(ModelError, match="not differentiable"):
        optimise_stimuli(lambda x, which: x.detach().sum(1), x)
    with pytest.raises(ModelError, match="does not depend"):
        weight = torch.ones(2, requires_grad=True)
        optimise_stimuli(lambda x, which: weight[which], x)
    with pytest.raises(ModelError, match="NaN"):
        optimise_stimuli(lambda x, which: (x.sum(1) * 0).sqrt().log(), x)
    for wrong in (
        dict(steps=-1),
        dict(learning_rate=0.0),
        dict(optimiser="lbfgs"),
        dict(decay=1.0),
        dict(patience=0),
        dict(blur=1.0),
    ):
        with pytest.raises(InputError):
            optimise_stimuli(lambda x, which: x.sum(1), x, **wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="NaN"):
        optimise_stimuli(lambda x, which: x.sum(1), x * float("nan"))
    with pytest.raises(InputError, match="no shape"):
        noise_stimuli(1, (0, 3))
