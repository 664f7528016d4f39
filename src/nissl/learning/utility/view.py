"""A softmax network seen as utilities: what it prefers, what it would decide, and the probabilities that decide best."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr
from jaxtyping import Bool, Float
from scipy.optimize import minimize_scalar
from torch import Tensor

from nissl.errors import InputError, unknown
from nissl.learning.utility._drawing import Draws, check_draws
from nissl.learning.utility._scoring import finite, nats, score, several, token_logits
from nissl.learning.utility.gains import Gain, gain_matrix
from nissl.learning.utility.readers import ClassReader, Reader, open_reader
from nissl.learning.utility.transforms import OVER_CANDIDATES, TRANSFORMS, check_tokenwise, log_probability
from nissl.statistics import Measured, measure

RULES = ("greedy", "sample", "mbr", "vote", "rerank")
UTILITIES = ("log_probability", "mean_log_probability", "logit")
BETAS = (0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)


class UtilityView:
    """A classifier or a language model whose outputs are read as utilities.

    Parameters
    ----------
    model
        What `nissl.load` takes: a classifier, or a Hugging Face model that generates. Or any module that takes inputs and tokens
        and gives logits `(sample, position, option)` of each token given those before it, with `length`.
    length
        Tokens of an output at most. Needed for modules of one's own; 20 for language models.
    end
        The token after which an output ends, for modules of one's own.
    batch_size
        Outputs scored at a time.

    Attributes
    ----------
    beta_, transform_
        What `fit_beta` chose; `decide` uses it where it is given none.
    likelihood_beta_
        The beta under which the validation data is likeliest: infinity where a larger one is always likelier; NaN for transforms of
        whole candidates.
    betas_
        A row for each beta that `fit_beta` tried: gain of the decision, standard error, nats a token, distinct outputs.

    Notes
    -----
    Only comparisons of utilities mean something, and only within a context: rules that need no more (`greedy`, `rerank`) do not
    depend on beta. Rules that need values (`sample`, `mbr`, `vote`) do. `power`, `value` and `rank` act token by token,
    so that a sequence's probability is a product of transformed ones, whose order can differ from the order of sequence
    probabilities; `sequence_power` and `unnormalised` act on whole candidates, which are drawn from the softmax first.

    References
    ----------
    Huang and Yuan (2023), Utility-Probability Duality of Neural Networks, arXiv:2305.14859.

    Examples
    --------
    >>> view = UtilityView(torch.nn.Linear(2, 3))
    >>> x = torch.randn(5, 2, generator=torch.Generator().manual_seed(0))
    >>> view.utilities(x).dims
    ('sample', 'class')
    >>> view.decide(x, "greedy").shape
    (5,)
    """

    def __init__(self, model: Any, *, length: int | None = None, end: int | None = None, batch_size: int = 256) -> None:
        if (length is not None and length < 1) or batch_size < 1:
            raise InputError(f"length={length}, batch_size={batch_size}; allowed: at least 1")
        self.batch_size = batch_size
        self.beta_, self.transform_, self.likelihood_beta_ = 1.0, "power", 1.0
        self.betas_: pd.DataFrame | None = None
        self.reader: Reader = open_reader(model, length, end)
        self._draws = Draws(self.reader, batch_size)

    def utilities(
        self, inputs: Any, candidates: Sequence[Sequence[Any]] | None = None, *, utility: str = "log_probability"
    ) -> xr.DataArray:
        """Utilities of the options of each input.

        Parameters
        ----------
        inputs
            As the network takes them.
        candidates
            For each input its candidate outputs. None for a classifier: all classes, whose utilities are the logits.
        utility
            Of a candidate: its `log_probability`, the `mean_log_probability` of a token, or the sum of raw `logit`s.

        Returns
        -------
        xarray.DataArray
            (sample, class) or (sample, candidate); where an input has fewer candidates than another, minus infinity.

        Raises
        ------
        InputError
            No candidates for a language model, or not as many lists as inputs.
        """
        if utility not in UTILITIES:
            raise unknown("utility", utility, UTILITIES)
        if candidates is None:
            if not isinstance(self.reader, ClassReader):
                raise InputError(
                    "the outputs of a language model cannot be listed; give candidates, a list for each input"
                )
            logits = self.reader.token_logits(inputs)[:, 0]
            return xr.DataArray(
                finite(logits).float().cpu().numpy() if logits.dtype != torch.float64 else finite(logits).cpu().numpy(),
                dims=("sample", "class"),
            )
        counts = [len(c) for c in candidates]
        inputs = several(inputs)
        if len(counts) != len(inputs) or not all(counts):
            raise InputError(
                f"{len(counts)} lists of candidates for {len(inputs)} inputs; give each input at least one"
            )
        rows = np.repeat(np.arange(len(inputs)), counts)
        scores = self._score(inputs, rows, self.reader.encode([c for row in candidates for c in row]), utility)
        table = np.full((len(inputs), max(counts)), -np.inf)
        table[rows, np.concatenate([np.arange(c) for c in counts])] = scores
        return xr.DataArray(table, dims=("sample", "candidate"))

    def gaps(self, inputs: Any) -> Float[xr.DataArray, "sample class"]:
        """How far each class's utility lies above the best other: what an output neuron prefers is where its gap is largest."""
        u = self.utilities(inputs)
        top = np.sort(u.values, -1)[:, -2:]
        best_other = np.where(u.values == top[:, 1:], top[:, :1], top[:, 1:])
        return u - best_other

    def prefer(self, inputs: Any, better: Sequence[Any], worse: Sequence[Any]) -> Bool[np.ndarray, "sample"]:
        """Whether each input's first output has the higher utility."""
        u = self._pair(inputs, better, worse)
        return u[0] > u[1]

    def order_agreement(self, inputs: Any, better: Sequence[Any], worse: Sequence[Any], *, seed: int = 0) -> Measured:
        """Share of inputs whose better output has the higher utility, a tie counting half.

        The control asks the same of another input's pair of outputs, which says how far the outputs are better by themselves.
        """
        inputs = several(inputs)
        self._same_number(inputs, better, worse)
        if len(inputs) < 2:
            raise InputError(
                "order agreement needs at least two inputs, since its control takes another input's outputs"
            )
        step = 1 + np.random.default_rng(seed).integers(max(len(inputs) - 1, 1))
        other = np.roll(np.arange(len(inputs)), step).tolist()
        pairs = [(better, worse), ([better[i] for i in other], [worse[i] for i in other])]
        found = []
        for good, bad in pairs:
            u = self._pair(inputs, good, bad)
            found.append((u[0] > u[1]) + 0.5 * (u[0] == u[1]))
        return measure("order agreement", *found, seed=seed)

    def negative_log_likelihood(
        self, inputs: Any, references: Sequence[Any], *, transform: str = "power", beta: float = 1.0
    ) -> float:
        """Nats a token of the references under transformed probabilities, for transforms that act on tokens."""
        check_tokenwise(transform)
        return nats(self._reference_logits(several(inputs), references), transform, beta)

    def candidates(
        self, inputs: Any, n: int, *, transform: str | None = None, beta: float | None = None, seed: int = 0
    ) -> tuple[list[list[Any]], Float[np.ndarray, "sample n"]]:
        """Outputs of each input drawn from transformed probabilities, and how much each counts."""
        _, shown, weights = self._draws.draw(several(inputs), n, *self._chosen(transform, beta), seed)
        return shown, weights

    def decide(
        self,
        inputs: Any,
        rule: str = "greedy",
        *,
        n: int = 16,
        gain: Gain | Float[np.ndarray, "class class"] = "exact",
        transform: str | None = None,
        beta: float | None = None,
        seed: int = 0,
    ) -> Any:
        """One output for each input.

        Parameters
        ----------
        inputs
            As the network takes them.
        rule
            `greedy`: the best token each time. `sample`: one draw. `mbr`: of n draws the one with the highest mean gain against
            the others (minimum Bayes risk). `vote`: of n draws the commonest. `rerank`: of n draws the one of highest utility. A
            classifier needs no draws for `mbr` and `vote`: all classes are weighed.
        n
            How many are drawn.
        gain
            For `mbr`: see `gain_matrix`; for a classifier also a table of gains (decided class, true class).
        transform, beta
            Of the probability that is drawn from; what `fit_beta` chose where None.
        seed
            Of the draws.

        Returns
        -------
        For a classifier the indices (sample,); else a list of texts, or of token ids where there is no tokenizer.

        Raises
        ------
        UnknownNameError
            No such rule or transform.
        """
        if rule not in RULES:
            raise unknown("rule", rule, RULES)
        transform, beta = self._chosen(transform, beta)
        inputs = several(inputs)
        classes = isinstance(self.reader, ClassReader)
        check_draws(n)
        if rule == "greedy":
            picked = [self.reader.show(row[0]) for row in self.reader.draw(inputs, 1, None, seed)]
        elif classes and rule in ("mbr", "vote", "rerank"):
            q = self._class_probability(inputs, transform, beta)
            worth = np.eye(q.shape[1]) if rule != "mbr" else _class_gains(gain, q.shape[1])
            picked = (q @ worth.T).argmax(1).tolist()
        else:
            one = rule == "sample" and transform not in OVER_CANDIDATES
            tokens, outputs, weights = self._draws.draw(inputs, 1 if one else n, transform, beta, seed)
            picked = self._draws.pick(rule, inputs, tokens, outputs, weights, "exact" if rule == "vote" else gain, seed)
        return np.array(picked) if classes else picked

    def fit_beta(
        self,
        inputs: Any,
        references: Sequence[Any],
        *,
        gain: Gain | Float[np.ndarray, "class class"] = "exact",
        rule: str = "sample",
        transform: str = "power",
        betas: Sequence[float] = BETAS,
        n: int = 16,
        seed: int = 0,
    ) -> UtilityView:
        """Choose beta by what decisions are worth on validation data, not by likelihood.

        Parameters
        ----------
        inputs, references
            Validation data: what is right for each input.
        gain
            Of an output against the reference.
        rule
            Whose gain is to be highest: `sample` (mean over n draws), `mbr` or `vote`.
        transform, betas
            What to try; of equal gains the smallest beta is taken, which keeps most diversity.
        n, seed
            Draws, the same for every beta.

        Returns
        -------
        UtilityView
            Itself, with `beta_`, `transform_`, `likelihood_beta_` and `betas_`.
        """
        if rule not in ("sample", "mbr", "vote"):
            raise unknown("rule", rule, ("sample", "mbr", "vote"), hint="the others do not depend on beta")
        if transform not in TRANSFORMS:
            raise unknown("transform", transform, TRANSFORMS)
        betas = np.sort(np.atleast_1d(np.asarray(list(betas) if np.iterable(betas) else betas, dtype=float))).tolist()
        if not betas:
            raise InputError("no betas to try")
        check_draws(n)
        inputs = several(inputs)
        right = [self.reader.show(row) for row in self._references(inputs, references)]
        tokenwise = transform not in OVER_CANDIDATES
        logits = self._reference_logits(inputs, references)
        found = []
        for beta in betas:
            _, outputs, weights = self._draws.draw(inputs, n, transform, beta, seed)
            decided, share = outputs, weights
            if rule != "sample":
                decided = [
                    [o] for o in self.decide(inputs, rule, n=n, gain=gain, transform=transform, beta=beta, seed=seed)
                ]
                share = np.ones((len(decided), 1))
            worth = np.array(
                [gain_matrix(o, gain, against=[r])[:, 0] @ w for o, r, w in zip(decided, right, share, strict=True)]
            )
            found.append(
                {
                    "beta": beta,
                    "gain": worth.mean(),
                    "standard_error": worth.std() / np.sqrt(len(worth)),
                    "nats_per_token": nats(logits, transform, beta) if tokenwise else np.nan,
                    "distinct": float(np.mean([len(set(map(_hashable, o))) / n for o in outputs])),
                }
            )
        self.betas_ = pd.DataFrame(found)
        self.beta_, self.transform_ = float(max(found, key=lambda row: row["gain"])["beta"]), transform
        self.likelihood_beta_ = _likeliest(logits, transform) if tokenwise else np.nan
        return self

    # What is below is shared by these.

    def _chosen(self, transform: str | None, beta: float | None) -> tuple[str, float]:
        return transform or self.transform_, self.beta_ if beta is None else beta

    def _same_number(self, inputs: Any, better: Sequence[Any], worse: Sequence[Any]) -> None:
        if not len(better) == len(worse) == len(inputs):
            raise InputError(
                f"{len(inputs)} inputs, {len(better)} better and {len(worse)} worse outputs; give one pair an input"
            )

    def _pair(self, inputs: Any, better: Sequence[Any], worse: Sequence[Any]) -> np.ndarray:
        inputs = several(inputs)
        self._same_number(inputs, better, worse)
        return np.stack(
            [
                self._score(inputs, np.arange(len(inputs)), self.reader.encode(o), "log_probability")
                for o in (better, worse)
            ]
        )

    def _score(self, inputs: Any, rows: np.ndarray, tokens: Tensor, utility: str) -> np.ndarray:
        return score(self.reader, inputs, rows, tokens, utility, self.batch_size)

    def _references(self, inputs: Any, references: Sequence[Any]) -> Tensor:
        if len(references) != len(inputs):
            raise InputError(f"{len(references)} references for {len(inputs)} inputs")
        return self.reader.encode(references)

    def _reference_logits(self, inputs: Any, references: Sequence[Any]) -> tuple[Tensor, Tensor]:
        return token_logits(self.reader, inputs, self._references(inputs, references), self.batch_size)

    def _class_probability(self, inputs: Any, transform: str, beta: float) -> np.ndarray:
        u = torch.as_tensor(self.utilities(inputs).values).double()
        return log_probability(u, "power" if transform in OVER_CANDIDATES else transform, beta).exp().numpy()


def _likeliest(logits: tuple[Tensor, Tensor], transform: str) -> float:
    """The beta of highest likelihood; 0 or infinity where it lies beyond 1/30 or 30."""
    bound = np.log(50)
    best = minimize_scalar(
        lambda b: nats(logits, transform, float(np.exp(b))), bounds=(-bound, bound), method="bounded"
    ).x  # type: ignore[attr-defined]
    if abs(best) > 0.9 * bound:
        return float("inf") if best > 0 else 0.0
    return float(np.exp(best))


def _class_gains(gain: Gain | np.ndarray, n: int) -> np.ndarray:
    if isinstance(gain, str):
        return gain_matrix([(c,) for c in range(n)], gain)
    if callable(gain):
        return gain_matrix(range(n), gain)
    table = np.asarray(gain, dtype=float)
    if table.shape != (n, n) or not np.isfinite(table).all():
        raise InputError(f"a table of gains of shape {table.shape}; allowed: finite numbers ({n}, {n})")
    return table


def _hashable(output: Any) -> Hashable:
    return tuple(output) if isinstance(output, list) else output
