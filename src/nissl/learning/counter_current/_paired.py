"""Two networks that run against each other, and what can be read from them layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor, nn

from nissl.errors import InputError
from nissl.learning.counter_current import _data
from nissl.learning.counter_current._learner import Learner
from nissl.learning.counter_current._mirror import mirrors
from nissl.learning.counter_current._modules import another, as_numpy, cosine, evaluating, fix_norms, sample_dims


class PairedNetwork(Learner):
    """A sequential network with a mirrored feedback network beside it; see `CounterCurrentNetwork`."""

    def __init__(
        self,
        forward_layers: nn.Sequential | Sequence[nn.Module],
        feedback_layers: Sequence[nn.Module | None] | None = None,
        *,
        input_shape: Sequence[int] | None = None,
        autoencoder: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__(forward_layers, input_shape=input_shape, autoencoder=autoencoder, seed=seed)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(another(seed))
            self.feedback = mirrors(self.blocks, feedback_layers)
        if autoencoder:
            fix_norms(self.feedback)
        self.configure()

    # ------------------------------------------------------------------ codes

    def forward_codes(self, x: Tensor) -> list[Tensor]:
        """a_0, ..., a_L as tensors, without graphs, in evaluation mode."""
        with torch.no_grad(), evaluating(self.network):
            codes = [self._enter(x)]
            for block in self.blocks:
                codes.append(block(codes[-1].clone() if block.overwrites else codes[-1]))
        return codes

    def feedback_codes(self, top: Tensor) -> list[Tensor]:
        """c_0, ..., c_L as tensors, without graphs, in evaluation mode."""
        with torch.no_grad(), evaluating(self.feedback):
            return self._downwards(top)

    def _downwards(self, top: Tensor) -> list[Tensor]:
        codes = [top]
        for module in reversed(self.feedback):
            codes.insert(0, module(codes[0]))
        return codes

    def top_code(self, target: Tensor | None = None) -> Tensor:
        """c_L: every class as a one-hot row, or what an autoencoder is to give back."""
        if self.autoencoder:
            assert target is not None
            return target
        weight = next(self.network.parameters())
        return torch.eye(self.n_outputs, dtype=weight.dtype, device=weight.device)

    # ------------------------------------------------------------------ reading

    def activations(self, x: Any) -> dict[int, xr.DataArray]:
        """Forward codes a_0 (the input) to a_L (the output), by layer: `(sample, unit)` or `(sample, unit, y, x)`."""
        return {layer: _labelled(a, "sample") for layer, a in enumerate(self.forward_codes(self._inputs(x)))}

    def templates(self, targets: Any = None) -> dict[int, xr.DataArray]:
        """Feedback codes c_0 to c_L, by layer.

        Parameters
        ----------
        targets
            Classes, all where None: `(class, unit, ...)`. For an autoencoder the samples: `(sample, unit, ...)`.
        """
        if self.autoencoder:
            if targets is None:
                raise InputError("an autoencoder has a code for each sample, not for each class; give samples")
            codes = self.feedback_codes(self._enter(self._inputs(targets)))
            return {layer: _labelled(c, "sample") for layer, c in enumerate(codes)}
        device, n = next(self.network.parameters()).device, self.n_outputs
        wanted = np.arange(n) if targets is None else np.atleast_1d(np.asarray(targets))
        rows = _data.labels(wanted, len(wanted), n, device)
        codes = self.feedback_codes(self.top_code()[rows])
        return {layer: _labelled(c, "class", rows.cpu().numpy()) for layer, c in enumerate(codes)}

    def layer_accuracy(self, X: Any, y: Any) -> xr.DataArray:
        """How many samples each layer's code assigns to the right class: the template whose product with it is largest.

        Returns
        -------
        DataArray
            `(layer,)` from 0, the input, to L, the logits, with the site that `nissl.record` knows.
        """
        if self.autoencoder:
            raise InputError("an autoencoder has no classes; see code_similarity for how far its codes agree")
        x, labels = self._pair(X, y)
        pairs = zip(self.forward_codes(x), self.feedback_codes(self.top_code()), strict=True)
        right = [(self._agreement(a, c).argmax(1) == labels).double().mean().item() for a, c in pairs]
        return self.by_layer(right, "accuracy", first=0)

    def _agreement(self, a: Tensor, c: Tensor) -> Tensor:
        return a.flatten(1) @ c.flatten(1).T

    def template_images(self, X: Any = None) -> xr.DataArray:
        """What each class looks like to the input layer: c_0 in the shape of the input.

        Parameters
        ----------
        X
            Samples, `(sample, *input_shape)`. Given, c_0 is multiplied with their covariance: the picture that goes with a large
            product x c_0, as c_0 itself is a filter, and weights of inputs that hardly vary show only where it began.

        Returns
        -------
        DataArray
            `(class, y, x)`, `(class, unit, y, x)` or `(class, unit)`.

        References
        ----------
        Haufe and others 2014, On the interpretation of weight vectors of linear models in multivariate neuroimaging (patterns of filters).
        """
        if self.autoencoder:
            raise InputError("an autoencoder has no classes; templates(X)[0] has its codes in the shape of the input")
        image = self.templates()[0].values.reshape(self.n_outputs, -1)
        if X is not None:
            x = as_numpy(self._enter(self._inputs(X)).flatten(1))
            x = x - x.mean(0)
            image = (image @ x.T) @ x / len(x)
        shape = self.input_shape[1:] if len(self.input_shape) == 3 and self.input_shape[0] == 1 else self.input_shape
        dims = {1: ("unit",), 2: ("y", "x"), 3: ("unit", "y", "x")}[len(shape)]
        return xr.DataArray(
            image.reshape(-1, *shape), dims=("class", *dims), coords={"class": np.arange(len(image))}, name="template"
        )

    def alignment(self) -> xr.DataArray:
        """Cosine of each forward weight with the transposed feedback weight of the same layer, kernels turned by half.

        Returns
        -------
        DataArray
            `(layer,)` from 1 to L; NaN where a feedback layer given by hand has no weight of that shape.
        """
        found = []
        for block, module in zip(self.blocks, self.feedback, strict=True):
            weight = next(block.layer.module.parameters()).detach()
            back = [
                p.detach().transpose(0, 1).flip(list(range(2, p.ndim)))
                for p in module.parameters()
                if p.ndim == weight.ndim
            ]
            if isinstance(block.layer.module, nn.ConvTranspose2d):
                weight = weight.flip([2, 3]).transpose(0, 1)
                back = [b.flip([2, 3]) for b in back]
            same = [b for b in back if b.shape == weight.shape and b.ndim > 1]
            found.append(cosine(weight, same[0]) if same else np.nan)
        return self.by_layer(found, "cosine", first=1)

    def by_layer(self, values: Sequence[float], name: str, first: int) -> xr.DataArray:
        """One number a layer, from layer `first`, with the site at which `nissl.record` finds the layer's code."""
        sites = ["input", *(f"network.{block.parts[-1].name}" for block in self.blocks)][first : first + len(values)]
        layers = np.arange(first, first + len(values))
        return xr.DataArray(list(values), dims="layer", coords={"layer": layers, "site": ("layer", sites)}, name=name)


def _labelled(value: Tensor, rows: str, names: np.ndarray | None = None) -> xr.DataArray:
    coords = {} if names is None else {rows: names}
    return xr.DataArray(as_numpy(value), dims=(rows, *sample_dims(value)), coords=coords)
