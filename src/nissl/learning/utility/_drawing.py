"""Outputs drawn for each input, how much each counts, and which of them a rule takes."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from nissl.errors import InputError
from nissl.learning.utility._scoring import score
from nissl.learning.utility.gains import gain_matrix
from nissl.learning.utility.readers import Reader
from nissl.learning.utility.transforms import OVER_CANDIDATES, log_probability


class Draws:
    """Draws from one network, scored a batch at a time."""

    def __init__(self, reader: Reader, batch_size: int) -> None:
        self.reader, self.batch_size = reader, batch_size

    def draw(
        self, inputs: Any, n: int, transform: str, beta: float, seed: int
    ) -> tuple[Tensor, list[list[Any]], np.ndarray]:
        """Outputs as rows of tokens and as they are read, and how much each counts."""
        check_draws(n)
        whole = transform in OVER_CANDIDATES
        draw, sharpness = ("power", 1.0) if whole else (transform, beta)
        log_probability(torch.zeros(1), transform, beta)  # whatever is wrong is said before anything is drawn
        tokens = self.reader.draw(inputs, n, lambda u: log_probability(u, draw, sharpness), seed)
        shown = [[self.reader.show(t) for t in row] for row in tokens]
        if not whole:
            return tokens, shown, np.full(tokens.shape[:2], 1 / n)
        scores = self.scores(inputs, tokens, "log_probability" if transform == "sequence_power" else "logit")
        if transform == "unnormalised":  # the set of candidates, each once
            seen = np.array([[o in row[:j] for j, o in enumerate(row)] for row in shown])
            scores = scores.masked_fill(torch.as_tensor(seen), -torch.inf)
        weights = log_probability(scores, transform, beta, drawn=transform == "sequence_power")
        return tokens, shown, weights.exp().numpy()

    def scores(self, inputs: Any, tokens: Tensor, utility: str) -> Tensor:
        """Utility of every draw."""
        rows = np.repeat(np.arange(len(inputs)), tokens.shape[1])
        return torch.as_tensor(score(self.reader, inputs, rows, tokens.flatten(0, 1), utility, self.batch_size)).view(
            tokens.shape[:2]
        )

    def pick(
        self,
        rule: str,
        inputs: Any,
        tokens: Tensor,
        outputs: list[list[Any]],
        weights: np.ndarray,
        gain: Any,
        seed: int,
    ) -> list[Any]:
        """One of the outputs of each input."""
        if rule == "sample":
            rng = np.random.default_rng(seed)
            return [row[rng.choice(len(row), p=w / w.sum())] for row, w in zip(outputs, weights, strict=True)]
        if rule == "rerank":
            best = self.scores(inputs, tokens, "log_probability").argmax(1).tolist()
            return [row[i] for row, i in zip(outputs, best, strict=True)]
        return [row[int((gain_matrix(row, gain) @ w).argmax())] for row, w in zip(outputs, weights, strict=True)]


def check_draws(n: Any) -> None:
    """An error where n is no number of draws."""
    if isinstance(n, bool) or not isinstance(n, int | np.integer) or n < 1:
        raise InputError(f"n={n}; draw a whole number of outputs, at least one")
