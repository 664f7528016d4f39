"""Weights of a learner, written back into the module that it was made of."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from nissl.diagrams.wiring.box import Box
from nissl.errors import InputError


def to_torch(learner: Learner) -> nn.Module:
    """The network with the weights that the learner has come to.

    Parameters
    ----------
    learner
        From `from_torch`, after any steps.

    Returns
    -------
    nn.Module
        A copy of the module that it was made of.

    Raises
    ------
    InputError
        A box that was not made from a module.

    Examples
    --------
    >>> from nissl.diagrams.wiring import from_torch
    >>> net = nn.Linear(3, 2)
    >>> learner = from_torch(net, torch.randn(4, 3))
    >>> _, _, learner = learner.step(torch.ones(4, 3), torch.ones(4, 2))
    >>> (to_torch(learner).bias - net.bias).detach().round(decimals=3)
    tensor([0.4000, 0.4000])
    """
    if not isinstance(learner.origin, tuple):
        raise InputError(f"{learner.label!r} was not made by from_torch; its state is in .state")
    module, origin = copy.deepcopy(learner.origin[0]), learner.origin[1]
    with torch.no_grad():
        _write(module, learner, learner.state, origin)
    return module


def _write(module: nn.Module, box: Box, state: Any, origin: Any) -> None:
    """Weights of one box; `origin` says which part of the module each of its places is."""
    if state is None:
        return
    if box.nested is None:
        for name, value in state["params"].items():
            module.get_parameter(name).copy_(value)
        return
    if origin == "neurons":
        rows = [state[n]["params"] for n in state]
        for name in rows[0]:
            module.get_parameter(name).copy_(torch.cat([row[name] for row in rows]))
        return
    own = dict(module.named_parameters())
    for name, held in state.items():
        inner, path = box.nested.boxes[name], origin[name]
        if path in own:  # a weight of the module itself
            own[path].copy_(next(iter(held["params"].values())))
        else:
            _write(module.get_submodule(path), inner, held, inner.origin)
