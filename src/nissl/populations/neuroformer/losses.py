"""What is minimised: next unit, next time, behaviour, and agreement between modalities."""

from __future__ import annotations

from itertools import combinations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from nissl.populations.neuroformer.model import NeuroformerNetwork, Prediction
from nissl.populations.neuroformer.windows import Batch


def info_nce(
    a: Float[Tensor, "sample latent"],
    b: Float[Tensor, "sample latent"],
    *,
    temperature: float = 0.5,
    symmetric: bool = False,
) -> Float[Tensor, ""]:
    """Cross entropy of finding each row's partner among all rows (van den Oord et al. 2018; Radford et al. 2021).

    Rows are unit vectors. `symmetric` averages both directions; the paper goes from `a` to `b` only.

    Examples
    --------
    >>> info_nce(torch.ones(8, 1), torch.ones(8, 1)).exp().round().item()
    8.0
    """
    similarity = a @ b.T / temperature
    partner = torch.arange(len(a), device=a.device)
    loss = F.cross_entropy(similarity, partner)
    return (loss + F.cross_entropy(similarity.T, partner)) / 2 if symmetric else loss


def losses(
    network: NeuroformerNetwork,
    batch: Batch,
    found: Prediction,
    *,
    temperature: float = 0.5,
    symmetric: bool = False,
    tokens_a_window: float | None = None,
) -> dict[str, Tensor]:
    """Each loss by its name: `id`, `dt`, `contrast`, and one a behaviour. PAD counts nothing, EOS counts.

    Losses of tokens are means over the tokens of the batch; where `tokens_a_window` is given, sums divided by that number of
    tokens a window.
    """
    ids, dts = batch.ids[:, 1:].flatten(), batch.dts[:, 1:].flatten()
    share = 1.0 if tokens_a_window is None else (ids <= network.eos).sum() / (tokens_a_window * len(batch.ids))
    out = {
        "id": share * F.cross_entropy(found.ids.flatten(0, 1).float(), ids.masked_fill(ids > network.eos, -100)),
        "dt": share
        * F.cross_entropy(found.dts.flatten(0, 1).float(), dts.masked_fill(dts > network.shape.window_bins, -100)),
    }
    for name, target in batch.targets.items():
        known = torch.isfinite(target)
        if name in found.predicted and known.any():
            said, wanted = found.predicted[name][known].float(), target[known]
            out[name] = (
                F.cross_entropy(said, wanted.long()) if network.shape.predict[name] else F.mse_loss(said, wanted)
            )
    pairs = list(combinations(found.aligned.values(), 2))
    if pairs:
        alike = [info_nce(a, b, temperature=temperature, symmetric=symmetric) for a, b in pairs]
        out["contrast"] = torch.stack(alike).mean()
    return out


def total(parts: dict[str, Tensor], chosen: tuple[str, ...] | None = None) -> Tensor:
    """The weighting of the released code where it says what it does: 1/4 contrast + 3/4 (3/5 unit + 2/5 time) + behaviour, and without
    contrast neither its term nor the factor 3/4. `chosen` leaves out all other losses.
    """
    held = {k: v for k, v in parts.items() if chosen is None or k in chosen}
    spikes = [share * held[k] for k, share in (("id", 0.6), ("dt", 0.4)) if k in held]
    contrast = held.get("contrast")
    terms = [s if contrast is None else 0.75 * s for s in spikes]
    terms += [] if contrast is None else [0.25 * contrast]
    terms += [v for k, v in held.items() if k not in ("id", "dt", "contrast")]
    return torch.stack(terms).sum() if terms else next(iter(parts.values())) * 0
