"""Remember the first word until you are asked: the smallest task that needs a long memory."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from nissl.errors import InputError


def token_recall(
    n: int, delay: int, *, symbols: int = 8, fillers: int = 8, seed: int | torch.Generator = 0
) -> tuple[Int[Tensor, "sample time"], Int[Tensor, "sample"]]:
    """Delayed recall in tokens: a symbol, then fillers, then a query; the answer is the symbol.

    Fillers are tokens that are never an answer; otherwise the task would be ambiguous.

    Parameters
    ----------
    n
        Samples.
    delay
        Fillers between symbol and query.
    symbols, fillers
        How many of each there are. Symbols are the tokens 0 to symbols - 1, fillers those after them, the query the last.
    seed
        Of the draw, or a generator.

    Returns
    -------
    ids, answer
        Tokens, `delay` + 2 of them, and the symbol to be said after the last.

    Raises
    ------
    InputError
        No samples, a negative delay, fewer than two symbols, no fillers.

    Examples
    --------
    >>> ids, answer = token_recall(4, delay=10)
    >>> ids.shape, bool((ids[:, 0] == answer).all()), int(ids[0, -1])
    (torch.Size([4, 12]), True, 16)
    """
    if n < 1 or delay < 0 or symbols < 2 or fillers < 1:
        raise InputError(
            f"n={n}, delay={delay}, symbols={symbols}, fillers={fillers}; allowed: 1 or more, 0 or more, 2 or more, 1 or more"
        )
    generator = seed if isinstance(seed, torch.Generator) else torch.Generator().manual_seed(seed)
    answer = torch.randint(symbols, (n,), generator=generator)
    between = torch.randint(symbols, symbols + fillers, (n, delay), generator=generator)
    return torch.cat([answer[:, None], between, torch.full((n, 1), symbols + fillers)], 1), answer
