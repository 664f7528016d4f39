"""Which neurons are compared with which: chosen once, when the network is built, and saved with it."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from nissl.errors import InputError, unknown

PAIRINGS = ("random", "semi-dense", "dense")


def choose_pairs(
    n_neurons: int,
    size: int,
    pairing: str = "random",
    *,
    n_self: int = 0,
    last: bool = False,
    generator: torch.Generator | None = None,
) -> tuple[Int[Tensor, " pair"], Int[Tensor, " pair"]]:
    """The left and the right neuron of every pair.

    Parameters
    ----------
    n_neurons
        How many neurons there are.
    size
        J: how many pairs (random), or how many neurons a side (semi-dense, dense).
    pairing
        - "random": J pairs of neurons drawn at random;
        - "semi-dense": J left and J right neurons drawn at random, and all pairs i <= j of the J by J table. Left and right
          are different neurons, so that the table is not symmetric, and only its upper triangle is read;
        - "dense": all pairs i <= j of J neighbouring neurons.
    n_self
        How many of the random pairs are a neuron with itself.
    last
        For "dense": the last J neurons instead of the first.
    generator
        Of the drawing.

    Returns
    -------
    left, right
        Indices of neurons: J pairs (random), or J (J + 1) / 2 (semi-dense, dense).

    Raises
    ------
    UnknownNameError
        A pairing that does not exist.
    InputError
        More neurons than there are, or more pairs of a neuron with itself than pairs.

    References
    ----------
    Darlow, Regan, Risi, Seely and Jones 2025, Continuous Thought Machines, section on neural synchronisation.

    Examples
    --------
    >>> left, right = choose_pairs(8, 3, "dense")
    >>> list(zip(left.tolist(), right.tolist()))
    [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)]
    """
    if pairing not in PAIRINGS:
        raise unknown("pairing", pairing, PAIRINGS)
    if n_neurons < 1 or size < 1:
        raise InputError(f"{size} pairs of {n_neurons} neurons; at least one of each is needed")
    if not 0 <= n_self <= size or (n_self and pairing != "random"):
        raise InputError(
            f"n_self={n_self} with {size} pairs and pairing={pairing!r}; allowed: 0 to {size}, and only 'random'"
        )
    if pairing == "random":
        left = torch.randint(n_neurons, (size,), generator=generator)
        right = torch.randint(n_neurons, (size,), generator=generator)
        return left, torch.cat([left[:n_self], right[n_self:]])
    if size > n_neurons:
        raise InputError(
            f"{size} neurons a side for {pairing} pairs, of {n_neurons} there are; choose at most {n_neurons}"
        )
    if pairing == "dense":
        rows = columns = torch.arange(size) + (n_neurons - size if last else 0)
    else:
        rows, columns = (torch.randperm(n_neurons, generator=generator)[:size] for _ in range(2))
    i, j = torch.triu_indices(size, size)
    return rows[i], columns[j]
