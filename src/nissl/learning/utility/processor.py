"""The transforms in the form that `generate` of a Hugging Face model takes."""

from __future__ import annotations

from collections.abc import Callable

from jaxtyping import Float, Int
from torch import Tensor
from transformers import LogitsProcessor

from nissl.learning.utility.transforms import check_tokenwise, log_probability


class UtilityLogitsProcessor(LogitsProcessor):
    """Make `generate` draw tokens from the probability that a transform makes of their utilities.

    Greedy choice and the order of the tokens stay as they are.

    Parameters
    ----------
    transform, beta
        As in `log_probability`: `power`, `value` or `rank`.
    log_q
        Any other function from logits to log-probabilities, in place of these.

    Raises
    ------
    UnknownNameError, InputError
        When it is made: no such transform, a beta that is not positive.

    Notes
    -----
    Tokens that an earlier processor ruled out (minus infinity) stay ruled out. Sampling options that a checkpoint brings along
    (`top_k=50` where it says nothing) are applied as well; `top_k=0, top_p=1.0` turns them off.

    Examples
    --------
    >>> import torch
    >>> process = UtilityLogitsProcessor("power", beta=2.0)
    >>> process(torch.zeros(1, 1, dtype=torch.long), torch.tensor([[0.0, 1.0]])).exp().round(decimals=2).tolist()
    [[0.11999999731779099, 0.8799999952316284]]
    """

    def __init__(
        self, transform: str = "power", beta: float = 1.0, *, log_q: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        from torch import zeros

        check_tokenwise(transform)
        self.log_q = log_q or (lambda logits: log_probability(logits, transform, beta))
        self.log_q(zeros(1, 2))  # whatever is wrong is said now, not at the first token

    def __call__(  # type: ignore[override]
        self, input_ids: Int[Tensor, "sample position"], scores: Float[Tensor, "sample option"]
    ) -> Float[Tensor, "sample option"]:
        """Log-probabilities in place of the logits."""
        return self.log_q(scores)
