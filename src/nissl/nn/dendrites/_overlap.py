"""Active synapses of many segments at once."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import embedding_bag, pad

# Samples in one go. Sums run over rows of this many half-precision counters, 128 bytes: two lines of a cache, as the table stays in it.
BLOCK = 64
# Whole numbers up to here are exact in half precision.
EXACT = 2048


def overlaps(
    synapses: Int[Tensor, "segment place"], active: Bool[Tensor, "sample cell"]
) -> Float[Tensor, "sample segment"]:
    """For each segment, how many of its synapses see an active cell; an empty place holds the number of cells.

    Cells become rows of a table, with one number a sample; a segment adds up the rows of its synapses. That moves 2 bytes a synapse and
    sample, where a dense product moves 4 bytes a cell. Half precision where that is exact.
    """
    kind = torch.float16 if synapses.shape[1] <= EXACT else torch.float32
    # The last row, of zeros, is what an empty place sees.
    table = pad(active.T.to(kind), (0, 0, 0, 1))
    parts = [embedding_bag(synapses, block.contiguous(), mode="sum") for block in table.split(BLOCK, dim=1)]
    return torch.cat(parts, 1).T if len(parts) > 1 else parts[0].T
