"""ReLinear: the quadratic terms start at zero and grow slowly, by a lower learning rate or by being pulled back."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from nissl.errors import InputError, ModelError
from nissl.nn.quadratic.layers import Quadratic

Pair = float | tuple[float, float]


def relinear_parameter_groups(
    model: nn.Module,
    lr: float,
    gamma_g: float = 0.01,
    gamma_b: float = 0.01,
    weight_decay: float = 0.0,
) -> list[dict[str, Any]]:
    """Parameter groups for any torch optimiser: the quadratic terms of quadratic layers learn more slowly than all else.

    With `nissl.learning.train`, pass ``optimiser=lambda parameters, lr: SGD(relinear_parameter_groups(model, lr), momentum=0.9)``; a schedule
    then moves all groups together.

    Parameters
    ----------
    model
        A network with quadratic layers, which are found by their type.
    lr
        Learning rate of all ordinary parameters, w_r and b_r among them.
    gamma_g, gamma_b
        Rate of (w_g, b_g) and of (w_b, c), as a share of `lr`. 0 leaves the network conventional. The paper uses 1e-4 for plain
        residual networks at lr 0.1, and 1e-2 with ReZero.
    weight_decay
        Of all parameters but b_g, which rests at 1: decay towards 0 would switch neurons off. `ReLinearShrink` pulls it to 1.

    Returns
    -------
    list of dict
        Groups called "ordinary", "g", "b_g" and "b" (`name`), each with `params`, `lr` and `weight_decay`. A layer used twice counts once; frozen
        parameters and empty groups are left out.

    Raises
    ------
    InputError
        Rates that are negative or not finite.
    ModelError
        The network has no quadratic layer.

    References
    ----------
    Fan, Li, Wang, Lai, Wang 2023, On Expressivity and Trainability of Quadratic Networks, IEEE TNNLS, arXiv:2110.06081 (ReLinear, shrinking
    the gradients).

    Examples
    --------
    >>> from nissl.nn.quadratic import QuadraticLinear
    >>> net = nn.Sequential(QuadraticLinear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    >>> groups = relinear_parameter_groups(net, lr=0.1, gamma_g=0.01, gamma_b=0.01)
    >>> [(g["name"], len(g["params"]), g["lr"]) for g in groups]
    [('ordinary', 4, 0.1), ('g', 1, 0.001), ('b_g', 1, 0.001), ('b', 2, 0.001)]
    >>> optimiser = torch.optim.SGD(groups, momentum=0.9)
    """
    given = {"lr": lr, "gamma_g": gamma_g, "gamma_b": gamma_b, "weight_decay": weight_decay}
    for name, value in given.items():
        if not (math.isfinite(value) and value >= 0):
            raise InputError(f"{name}={value}; allowed: finite numbers from 0")
    groups: dict[str, dict[str, Any]] = {
        "ordinary": {"lr": lr, "weight_decay": weight_decay},
        "g": {"lr": gamma_g * lr, "weight_decay": weight_decay},
        "b_g": {"lr": gamma_g * lr, "weight_decay": 0.0},
        "b": {"lr": gamma_b * lr, "weight_decay": weight_decay},
    }
    where: dict[int, str] = {}
    for layer in _quadratic_layers(model).values():
        pairs = ((layer.weight_g, "g"), (layer.bias_g, "b_g"), (layer.weight_b, "b"), (layer.bias_b, "b"))
        where |= {id(parameter): name for parameter, name in pairs if parameter is not None}
    members: dict[str, list[nn.Parameter]] = {name: [] for name in groups}
    for parameter in model.parameters():
        if parameter.requires_grad:
            members[where.get(id(parameter), "ordinary")].append(parameter)
    return [{"name": name, "params": members[name], **group} for name, group in groups.items() if members[name]]


class ReLinearShrink:
    """Pulls the quadratic terms back after each update, so that they stay as small as the data allow.

    It can be passed to `nissl.learning.train` as `after_step`.

    Parameters
    ----------
    model
        A network with quadratic layers.
    alpha
        Strength of the l2 form, from 0 (nothing) to 1 (all): w becomes (1 - alpha) w. One number, or two for g and b.
    beta
        Strength of the l1 form, from 0: w becomes sign(w) max(|w| - beta, 0). One number, or two for g and b.

    Raises
    ------
    InputError
        Strengths outside their range.
    ModelError
        The network has no quadratic layer.

    Notes
    -----
    w stands for w_g, b_g - 1, w_b and c: what is zero in a conventional network. Where both are given l2 comes first.

    References
    ----------
    Fan, Li, Wang, Lai, Wang 2023, On Expressivity and Trainability of Quadratic Networks, IEEE TNNLS, arXiv:2110.06081 (ReLinear, shrinking
    the weights).

    Examples
    --------
    >>> from nissl.nn.quadratic import QuadraticLinear
    >>> layer = QuadraticLinear(2, 1, init="random")
    >>> ReLinearShrink(layer, alpha=1.0).step()  # all the way: a conventional layer
    >>> layer.bias_g.item(), layer.weight_g.abs().sum().item()
    (1.0, 0.0)
    """

    def __init__(self, model: nn.Module, alpha: Pair = 0.0, beta: Pair = 0.0) -> None:
        self.alpha, self.beta = _pair("alpha", alpha, 1.0), _pair("beta", beta, math.inf)
        self.layers = list(_quadratic_layers(model).values())

    @torch.no_grad()
    def step(self) -> None:
        """Shrink once."""
        for layer in self.layers:
            terms = ((layer.weight_g, 0, 0.0), (layer.bias_g, 0, 1.0), (layer.weight_b, 1, 0.0), (layer.bias_b, 1, 0.0))
            for parameter, which, rest in terms:
                if parameter is not None and parameter.requires_grad:
                    away = (1 - self.alpha[which]) * (parameter - rest)
                    parameter.copy_(rest + nn.functional.softshrink(away, self.beta[which]))

    def __call__(self, model: nn.Module | None = None) -> None:
        """As `step`; the network is the one given at the beginning."""
        self.step()


def _pair(name: str, value: Pair, most: float) -> tuple[float, float]:
    pair = (value, value) if isinstance(value, float | int) else tuple(value)
    if len(pair) != 2 or not all(0 <= v <= most and math.isfinite(v) for v in pair):
        raise InputError(
            f"{name}={value}; allowed: a number from 0{f' to {most:g}' if most < math.inf else ''}, or two for g and b"
        )
    return pair


def _quadratic_layers(model: nn.Module) -> dict[str, Quadratic]:
    """Quadratic layers by name, each once."""
    found = dict(_find(model))
    if not found:
        raise ModelError(f"{type(model).__name__} has no quadratic layer; nissl.nn.quadratic.quadraticize makes them")
    return found


def _find(model: nn.Module) -> Iterator[tuple[str, Quadratic]]:
    return ((path, m) for path, m in model.named_modules() if isinstance(m, Quadratic))
