"""Polynomial pieces along a line, and the dimension of sets of functions, against closed forms."""

from __future__ import annotations

from itertools import pairwise
from math import comb

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from nissl.errors import InputError, ModelError
from nissl.evaluation.expressivity import functional_dimension, spline_pieces
from nissl.nn.quadratic import QuadraticConv2d, QuadraticLinear


class Call(nn.Module):
    """Any function as a module."""

    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


def seeded(*parts: nn.Module, seed: int = 0) -> nn.Sequential:
    generator = torch.Generator().manual_seed(seed)
    model = nn.Sequential(*parts)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator))
    return model


def chain(widths: tuple[int, ...], layer=nn.Linear, between=None, seed: int = 0) -> nn.Sequential:
    parts: list[nn.Module] = []
    for a, b in pairwise(widths):
        parts += [between()] if parts and between else []
        parts.append(layer(a, b))
    return seeded(*parts, seed=seed)


def square() -> nn.Module:
    return Call(lambda x: x**2)


# --- pieces -----------------------------------------------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 6), st.integers(0, 1000))
def test_knots_of_one_layer_are_the_roots_of_its_units(width: int, seed: int) -> None:
    for layer, degree in ((nn.Linear, 1), (QuadraticLinear, 2)):
        model = chain((1, width, 1), layer, nn.ReLU, seed)
        model[-1] = seeded(nn.Linear(width, 1), seed=seed)[0]
        pieces = spline_pieces(model, (-3.0, 3.0))
        first = model[0]
        if layer is nn.Linear:
            roots = (-first.bias / first.weight[:, 0]).tolist()
        else:
            r, g, b = ([getattr(first, f"{k}_{n}").flatten().tolist() for k in ("weight", "bias")] for n in "rgb")
            terms = zip(*r, *g, *b, strict=True)
            roots = np.concatenate(
                [np.roots([rw * gw + bw, rw * gb + rb * gw, rb * gb + bb]) for rw, rb, gw, gb, bw, bb in terms]
            )
            roots = [z.real for z in roots if abs(z.imag) < 1e-12]
        wanted = np.sort([z for z in roots if -3 < z < 3])
        found = pieces.stop.values[:-1]
        assert len(found) == len(wanted)
        assert np.abs(found - wanted).max(initial=0) < 1e-5  # float32 weights made the roots
        assert pieces.degree.max() <= degree
        assert (pieces.start.values[1:] == found).all()


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_without_rectifiers_there_is_one_piece_of_known_degree(depth: int) -> None:
    for layer, between in ((QuadraticLinear, None), (nn.Linear, square)):
        model = chain((1, *[3] * depth, 1), layer, between)
        layers = depth + (layer is QuadraticLinear)
        pieces = spline_pieces(model, (-1.0, 1.0))
        assert pieces.degree.tolist() == [2**layers]
    assert spline_pieces(chain((2, 3, 2)), (np.zeros(2), np.ones(2))).degree.tolist() == [1]


def test_rectifiers_are_seen_however_they_are_called() -> None:
    ways = [
        nn.ReLU(), nn.ReLU(inplace=True), nn.LeakyReLU(0.0), Call(torch.relu), Call(lambda x: x.relu()), Call(nn.functional.relu),
        Call(lambda x: torch.relu_(x.clone())),
    ]  # fmt: skip
    found = [spline_pieces(seeded(nn.Linear(1, 5), way, nn.Linear(5, 1)), (-3, 3)) for way in ways]
    assert len(found[0]) > 2
    for other in found[1:]:
        assert np.allclose(other.values, found[0].values)


def test_pictures_and_batch_norm() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        QuadraticConv2d(2, 3, 3, padding="same", init="random"), nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 4, 3), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2),
    )  # fmt: skip
    line = torch.randn(2, 2, 6, 6)
    pieces = spline_pieces(model, (line[0], line[1]))
    assert list(pieces) == ["start_fraction", "stop_fraction", "degree"]
    assert pieces.stop_fraction.iloc[-1] == 1
    assert len(pieces) > 5
    assert pieces.degree.max() == 2
    assert model.training


def test_a_knot_between_two_points_of_the_grid_is_found() -> None:
    bump = seeded(nn.Linear(1, 3), nn.ReLU(), nn.Linear(3, 1))
    with torch.no_grad():  # a tent of width 2e-3 about 0.1, which a grid of 21 points steps over
        bump[0].weight.fill_(1.0)
        bump[0].bias.copy_(torch.tensor([-0.099, -0.1, -0.101]))
        bump[2].weight.copy_(torch.tensor([[1.0, -2.0, 1.0]]))
    pieces = spline_pieces(bump, (-1.0, 1.0), n_points=21)
    assert np.allclose(pieces.stop.values[:-1], [0.099, 0.1, 0.101], atol=1e-6)
    assert pieces.degree.tolist()[:3] == [0, 1, 1]


@pytest.mark.parametrize(
    ("part", "named"),
    [(nn.Tanh(), "tanh"), (Call(nn.functional.dropout), "dropout"), (nn.GELU(), "gelu"), (nn.Softmax(1), "softmax"), (Call(torch.abs), "abs"), (Call(lambda x: 1 / x), "reciprocal|rdiv|rtruediv"),
     (Call(lambda x: x**0.5), "pow"), (Call(lambda x: x / x), "div"), (nn.LayerNorm(4), "layer_norm"), (Call(lambda x: x.clamp(min=0)), "clamp"),
     (Call(lambda x: x.max(1).values), "max")],
)  # fmt: skip
def test_other_nonlinearities_are_refused_by_name(part: nn.Module, named: str) -> None:
    with pytest.raises(ModelError, match=named):
        spline_pieces(seeded(nn.Linear(1, 4), part), (-1.0, 1.0))


def test_lines_that_are_none() -> None:
    model = chain((1, 2, 1), between=nn.ReLU)
    for line in ((1.0, 1.0), (0.0, float("nan")), (np.zeros(2), np.zeros(3))):
        with pytest.raises(InputError, match="two different inputs"):
            spline_pieces(model, line)
    with pytest.raises(InputError, match="takes 2"):
        spline_pieces(chain((2, 3, 1), between=nn.ReLU), (-1, 1))
    with pytest.raises(InputError, match="n_points=1"):
        spline_pieces(model, (-1, 1), n_points=1)
    with pytest.raises(ModelError, match="degree 4"):
        spline_pieces(chain((1, 2, 2, 2, 1), QuadraticLinear), (-1.0, 1.0), max_degree=4)
    with torch.no_grad():
        model[0].weight[0] = torch.nan
    with pytest.raises(ModelError, match="NaN"):
        spline_pieces(model, (-1.0, 1.0))


# --- dimension --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("a", "rank", "b"), [(3, 2, 4), (5, 1, 3), (4, 4, 4)])
def test_maps_of_limited_rank(a: int, rank: int, b: int) -> None:
    model = nn.Sequential(nn.Linear(a, rank, bias=False), nn.Linear(rank, b, bias=False))
    found = functional_dimension(model)
    assert found.rank == rank * (a + b - rank)
    assert found.gap > 1e8 or found.rank == found.n_parameters
    assert found.n_parameters == rank * (a + b)


@settings(max_examples=15, deadline=None)
@given(st.sampled_from([(2, 2, 1), (1, 3, 1), (3, 2, 1), (2, 2, 2, 1)]), st.integers(0, 1000), st.booleans())
def test_it_never_exceeds_weights_or_monomials(shape: tuple[int, ...], seed: int, quadratic: bool) -> None:
    layers = len(shape) - 1
    model = chain(shape, QuadraticLinear if quadratic else nn.Linear, None if quadratic else square, seed)
    degree = 2 ** (layers if quadratic else layers - 1)
    found = functional_dimension(model, seed=seed)
    assert found.rank <= min(found.n_parameters, comb(shape[0] + degree, degree))


def test_known_dimensions_and_a_unit_that_copies_another() -> None:
    assert functional_dimension(chain((2, 2, 1), between=square)).rank == 6
    model = chain((2, 2, 2, 1), QuadraticLinear)
    free = functional_dimension(model)
    assert free.rank == 18
    assert free.gap > 1e6
    assert (np.diff(free.singular_values) <= 0).all()
    with torch.no_grad():
        for p in model[0].parameters():
            p[1] = p[0]
    assert functional_dimension(model).rank < 18


def test_points_of_ones_own_and_pictures() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 1))
    with pytest.raises(InputError, match="inputs="):
        functional_dimension(model)
    found = functional_dimension(model, inputs=torch.randn(60, 1, 4, 4, generator=torch.Generator().manual_seed(0)))
    assert found.rank == 17  # a linear map of 16 pixels and a constant
    assert functional_dimension(nn.Linear(3, 2)).rank == 8


def test_what_has_no_dimension() -> None:
    with pytest.raises(ModelError, match="no weights"):
        functional_dimension(nn.ReLU())
    with pytest.raises(InputError, match="more n_points"):
        functional_dimension(chain((2, 2, 2, 1), QuadraticLinear), n_points=5)
    with pytest.raises(InputError, match="2 GiB"):
        functional_dimension(nn.Linear(300, 300), n_points=2000)
    with pytest.raises(InputError, match="cutoff=2"):
        functional_dimension(nn.Linear(2, 2), cutoff=2)
    broken = nn.Linear(2, 2)
    with torch.no_grad():
        broken.weight[0, 0] = torch.nan
    with pytest.raises(ModelError, match="NaN"):
        functional_dimension(nn.Sequential(broken, nn.Linear(2, 1)))
