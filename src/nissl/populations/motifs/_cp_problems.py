"""An array as the solver of non-negative factors sees it: products with factors, and what is missing.

Factors are one array (restart, component, place) an axis. The axes fall into a left and a right half, so that the array is a matrix
and its products with all factors but one begin with a matrix product.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import reduce
from math import prod

import numpy as np

Factors = list[np.ndarray]  # one array (restart, component, place) an axis


def product_of(parts: Iterable[np.ndarray]) -> np.ndarray:
    """Elementwise product of arrays, of at least one."""
    return reduce(np.multiply, parts)


def varying_axes(missing: np.ndarray) -> list[int]:
    """The axes along which what is missing is not always the same."""
    return [a for a in range(missing.ndim) if (missing != missing.take([0], axis=a)).any()]


def khatri_rao(factors: Sequence[np.ndarray]) -> np.ndarray:
    """Row-wise outer products: from arrays (..., component, place) to (..., component, all places)."""
    out = factors[0]
    for f in factors[1:]:
        out = (out[..., :, None] * f[..., None, :]).reshape(*out.shape[:-1], -1)
    return out


def all_grams(factors: Factors) -> Factors:
    return [(f @ f.swapaxes(1, 2)).astype(np.float64) for f in factors]


class Complete:
    """The array seen as a matrix (left axes, right axes), and its products with factors."""

    def __init__(self, x: np.ndarray) -> None:
        self.shape, self.dtype = x.shape, x.dtype
        # The split whose two sides, where they hold several axes, are smallest: they are walked through element by element.
        sizes = {h: sum(prod(side) for side in (x.shape[:h], x.shape[h:]) if len(side) > 1) for h in range(1, x.ndim)}
        self.half = min(sizes, key=sizes.__getitem__)
        self.matrix = x.reshape(prod(x.shape[: self.half]), -1)
        self.norm2 = float(np.einsum("ij,ij->", x.reshape(len(x), -1), x.reshape(len(x), -1), dtype=np.float64))

    def towards_left(self, factors: Factors) -> np.ndarray:
        """The array times the factors of the right axes: (restart, component, left places)."""
        right = khatri_rao(factors[self.half :])
        return (right.reshape(-1, right.shape[-1]) @ self.matrix.T).reshape(*right.shape[:2], -1)

    def towards_right(self, factors: Factors) -> np.ndarray:
        left = khatri_rao(factors[: self.half])
        return (left.reshape(-1, left.shape[-1]) @ self.matrix).reshape(*left.shape[:2], -1)

    def prepare(self, factors: Factors) -> tuple[np.ndarray, np.ndarray]:
        """Loss of each restart, relative to |x|^2, and the product that both the loss and the next sweep need."""
        product = self.towards_left(factors)
        left = khatri_rao(factors[: self.half])
        inner = np.einsum("srp,srp->s", product, left, dtype=np.float64)
        return np.maximum(self.norm2 - 2 * inner + self.square(factors), 0) / self.norm2, product

    def square(self, factors: Factors) -> np.ndarray:
        """The model's sum of squares over the entries that count, one a restart."""
        return product_of(all_grams(factors)).sum((1, 2))

    def gram(self, factors: Factors, grams: Factors, axis: int) -> np.ndarray:
        """Products of the components with each other, seen from one axis: (restart, component, component, 1 or place)."""
        return product_of(g for a, g in enumerate(grams) if a != axis)[..., None]


class Patterned(Complete):
    """The same where what is missing is the same all along some axes: its least squares are exact, and restarts go together."""

    def __init__(self, x: np.ndarray, missing: np.ndarray, varying: list[int]) -> None:
        super().__init__(x)  # zeros where missing, so products with factors are right as they are
        self.varying = varying
        self.known = 1.0 - missing[tuple(slice(None) if a in varying else 0 for a in range(x.ndim))]

    def _over_known(self, factors: Factors, axis: int | None) -> np.ndarray:
        """Products of components summed over what is known, over all varying axes but one."""
        squares = [factors[a][:, :, None] * factors[a][:, None] for a in self.varying if a != axis]
        letters = {a: chr(ord("a") + i) for i, a in enumerate(self.varying)}
        terms = ["ZRS" + letters[a] for a in self.varying if a != axis]
        out = "ZRS" + ("" if axis is None else letters[axis])
        return np.einsum(
            ",".join([*terms, "".join(letters.values())]) + "->" + out, *squares, self.known, optimize=True
        )

    def square(self, factors: Factors) -> np.ndarray:
        constant = [g for a, g in enumerate(all_grams(factors)) if a not in self.varying]
        return product_of([*constant, self._over_known(factors, None)]).sum((1, 2))

    def gram(self, factors: Factors, grams: Factors, axis: int) -> np.ndarray:
        rest = [g for a, g in enumerate(grams) if a != axis and a not in self.varying]
        inner = self._over_known(factors, axis if axis in self.varying else None)
        inner = inner if axis in self.varying else inner[..., None]
        return product_of(rest)[..., None] * inner if rest else inner


class Incomplete(Complete):
    """The same with missing entries, which hold the model's own values while a sweep runs; one restart at a time."""

    def __init__(self, x: np.ndarray, missing: np.ndarray) -> None:
        super().__init__(x)
        self.missing = missing.reshape(self.matrix.shape)

    def prepare(self, factors: Factors, block: int = 2**22) -> tuple[np.ndarray, np.ndarray]:
        left, right = khatri_rao(factors[: self.half])[0], khatri_rao(factors[self.half :])[0]
        loss, rows = 0.0, max(1, block // right.shape[1])
        for i in range(0, len(self.matrix), rows):
            model = left[:, i : i + rows].T @ right
            np.copyto(self.matrix[i : i + rows], model, where=self.missing[i : i + rows])
            model -= self.matrix[i : i + rows]
            loss += float(np.einsum("ij,ij->", model, model, dtype=np.float64))
        return np.array([loss / self.norm2]), self.towards_left(factors)
