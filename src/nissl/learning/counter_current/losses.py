"""Local losses: how far the forward code of a layer is from the feedback code of the same layer."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import mse_loss, normalize

WIDTH = 256  # of the paper's layers; losses are scaled so that other widths behave like this one


def template_loss(
    a: Float[Tensor, "sample ..."],
    c: Float[Tensor, "row ..."],
    match: Float[Tensor, "sample row"],
    strength: float = 0.5,
) -> Float[Tensor, ""]:
    """J = 256 s mse(M, I) / d with M = a c^T: a code's product with its own class's template is 1, with the others 0.

    Parameters
    ----------
    a
        Forward codes; dimensions after the first are flattened to d units.
    c
        Feedback codes: a row a class, or a row a sample.
    match
        I: 1 where row and sample belong together.
    strength
        s.

    References
    ----------
    Kao and Hariharan 2024, Counter-Current Learning.

    Examples
    --------
    >>> a = torch.eye(2)
    >>> float(template_loss(a, a, torch.eye(2)))
    0.0
    """
    a, c = a.flatten(1), c.flatten(1)
    return WIDTH * strength / a.shape[1] * mse_loss(a @ c.T, match)


def similarity_loss(
    a: Float[Tensor, "sample ..."],
    c: Float[Tensor, "row ..."],
    match: Float[Tensor, "sample row"],
    strength: float = 0.5,
) -> Float[Tensor, ""]:
    """J = s mse(A C^T, I) + 0.5 mse(A A^T, 1) + 0.5 mse(C C^T, 1), rows of A and C being those of a and c at length 1.

    The last two keep samples apart, and classes. Parameters as those of `template_loss`.

    Examples
    --------
    >>> a = torch.eye(2)
    >>> float(similarity_loss(5 * a, a, torch.eye(2)))
    0.0
    """
    A, C = normalize(a.flatten(1)), normalize(c.flatten(1))
    apart = [mse_loss(Z @ Z.T, torch.eye(len(Z), dtype=Z.dtype, device=Z.device)) for Z in (A, C)]
    return strength * mse_loss(A @ C.T, match) + 0.5 * (apart[0] + apart[1])


def centred_similarity_loss(
    a: Float[Tensor, "sample ..."],
    c: Float[Tensor, "sample ..."],
    match: Float[Tensor, "sample sample"],
    strength: float = 30.0,
) -> Float[Tensor, ""]:
    """J = s mse(A C^T, I), rows of A and C being those of a and c less their mean over samples, at length 1.

    For autoencoders, where every sample is its own class. Parameters as those of `template_loss`.

    Examples
    --------
    >>> a = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    >>> float(centred_similarity_loss(a, 2 * a + 1, torch.tensor([[1.0, -1.0], [-1.0, 1.0]])))
    0.0
    """
    A, C = (normalize((z - z.mean(0)).flatten(1)) for z in (a, c))
    return strength * mse_loss(A @ C.T, match)


def code_loss(
    a: Float[Tensor, "sample ..."],
    c: Float[Tensor, "row ..."],
    match: Float[Tensor, "sample row"],
    strength: float = 1.0,
) -> Float[Tensor, ""]:
    """J = s h (mse(a, c) + mse(A, C)), h the height of maps (1 for vectors); A, C have mean 0 and length 1 over places.

    Each sample is compared with the row that it belongs to. A vector counts as one channel whose places are its units. Both
    codes can shrink together, which makes this loss small and useless; watch their `effective_rank`. Parameters as those of
    `template_loss`.

    Examples
    --------
    >>> a = torch.tensor([[1.0, 0.0], [0.0, 3.0]])
    >>> float(code_loss(a, a, torch.eye(2)))
    0.0
    """
    own = c.index_select(0, match.argmax(1))
    height = a.shape[2] if a.ndim == 4 else 1

    def shape_only(z: Tensor) -> Tensor:
        places = z.flatten(2) if z.ndim > 2 else z[:, None]
        return normalize(places - places.mean(-1, keepdim=True), dim=-1)

    return strength * height * (mse_loss(a, own) + mse_loss(shape_only(a), shape_only(own)))


LocalLoss = Callable[[Tensor, Tensor, Tensor, float], Tensor]
CLASSIFIER_LOSSES: dict[str, tuple[LocalLoss, float]] = {
    "template": (template_loss, 0.5),
    "similarity": (similarity_loss, 0.5),
    "mse": (code_loss, 1.0),
}
AUTOENCODER_LOSSES: dict[str, tuple[LocalLoss, float]] = {
    "similarity": (centred_similarity_loss, 30.0),
    "mse": (code_loss, 1.0),
}


def matches(labels: Tensor, n_classes: int, dtype: torch.dtype) -> Float[Tensor, "sample class"]:
    """One-hot rows: which class each sample belongs to.

    Examples
    --------
    >>> matches(torch.tensor([1]), 3, torch.float32).tolist()
    [[0.0, 1.0, 0.0]]
    """
    return torch.nn.functional.one_hot(labels, n_classes).to(dtype)
