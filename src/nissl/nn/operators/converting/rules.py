"""Which layer becomes what, and why."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from nissl.nn.operators.converting.domain import Domain, Grid
from nissl.nn.operators.converting.grids import (
    Converted,
    HatConv,
    PatchConv,
    RadiusAverage,
    RadiusMaximum,
    Resampled,
    Upsampled,
    Windowed,
)
from nissl.nn.operators.converting.padding import measured_padding
from nissl.nn.operators.converting.points import (
    DenseIntegral,
    DomainMean,
    PositionEmbedding,
    WeightedAttention,
    WeightedNorm,
)
from nissl.nn.operators.converting.tracing import Trace

CONV = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
AVERAGE = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
MAXIMUM = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
ADAPTIVE = (
    nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d,
    nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d,
)  # fmt: skip
INSTANCE = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
BATCH = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
RECURRENT = (nn.RNNBase, nn.RNNCellBase)
KEPT = "kept"
PLAIN = {kind.forward for kind in CONV}


@dataclass
class Rules:
    """Replacement of single layers.

    Attributes
    ----------
    domain
        That the new layers share.
    seen
        The pass on the training grid.
    dense
        Whether dense layers over all points become integrals.
    patches
        Whether convolutions over patches side by side keep the number of patches.
    rows
        What was done: path, layer, replaced by, reason.
    """

    domain: Domain
    seen: Trace
    dense: bool
    patches: bool = False
    rows: list[dict[str, str]] = field(default_factory=list)

    def replace(self, path: str, layer: nn.Module) -> nn.Module | None:
        """The layer in its place, or None where it stays as it is; a row tells what was done and why."""
        new, why = self._rule(path, layer)
        if why:
            name = KEPT if new is layer else "" if new is None else type(new).__name__
            self.rows.append({"path": path, "layer": type(layer).__name__, "replaced by": name, "reason": why})
        return None if new is layer else new

    def again(self, path: str, layer: nn.Module, first: str) -> None:
        """A layer that stands in a second place is replaced by the same one."""
        done = next((row for row in self.rows if row["path"] == first), None)
        if done:
            self.rows.append({**done, "path": path, "reason": f"shared with {first}: {done['reason']}"})

    def _rule(self, path: str, layer: nn.Module) -> tuple[nn.Module | None, str]:
        grids = self._grids(layer)
        if isinstance(layer, CONV + TRANSPOSED + AVERAGE + MAXIMUM + ADAPTIVE + (nn.Upsample,)) and not grids:
            return None, "is not reached by the network's forward, so the grid it was trained on is not known"
        if isinstance(layer, CONV):
            return self._conv(path, layer, grids)
        if isinstance(layer, TRANSPOSED):
            method = self._method()
            new = Resampled(layer, self.domain, grids, path, method=method)
            return (
                new,
                f"run on its training grid {grids[0]}, input and output resampled ({method}): its outputs differ by their place in a stride",
            )
        if isinstance(layer, AVERAGE + MAXIMUM):
            return self._pool(path, layer, grids)
        if isinstance(layer, ADAPTIVE):
            return DomainMean(
                layer, self.domain, grids, path
            ), "the parts it pools over are fixed fractions of the domain"
        if isinstance(layer, nn.Upsample):
            if layer.size is None:
                return layer, "to a set fraction of the input grid already"
            return Upsampled(
                layer, self.domain, grids, path
            ), f"to the same multiple of the grid as {grids[0]} to {layer.size}"
        if isinstance(layer, nn.MultiheadAttention):
            return WeightedAttention(layer, self.domain), "the weights of points go inside the sums over keys"
        if isinstance(layer, (nn.GroupNorm, nn.LayerNorm, *INSTANCE, *BATCH)):
            return self._norm(path, layer, grids)
        if isinstance(layer, nn.Embedding):
            return self._embedding(path, layer)
        if isinstance(layer, nn.Linear):
            return self._linear(path, layer)
        if isinstance(layer, RECURRENT):
            return None, "one step a sample: its time constants are counted in samples of the training grid"
        return layer, ""

    def _conv(self, path: str, layer: Any, grids: list[Grid]) -> tuple[nn.Module | None, str]:
        if all(k == 1 for k in layer.kernel_size):
            return layer, "" if all(
                s == 1 for s in layer.stride
            ) else "one tap: it reads every so many points, a set fraction of the grid"
        side_by_side = tuple(layer.kernel_size) == tuple(layer.stride) and layer.padding in (
            "valid",
            (0,) * len(grids[0]),
        )
        if self.patches and side_by_side and all(n % k == 0 for n, k in zip(grids[0], layer.kernel_size, strict=True)):
            many = " by ".join(str(n // k) for n, k in zip(grids[0], layer.kernel_size, strict=True))
            return PatchConv(layer, self.domain, grids, path), f"integrals over {many} patches of fixed physical size"
        new = HatConv(layer, self.domain, grids, path)
        if type(layer).forward not in PLAIN:
            before = measured_padding(layer, grids[0])
            if before is None:
                return self._resampled(new, "it has a forward of its own")
            new.pad_before(before)
        return self._windowed(new, f"{self.domain.kernel} at the trained taps")

    def _pool(self, path: str, layer: Any, grids: list[Grid]) -> tuple[nn.Module | None, str]:
        maximum = isinstance(layer, MAXIMUM)
        if getattr(layer, "return_indices", False):
            return None, "gives back indices of points, which mean something on one grid only"
        new = (RadiusMaximum if maximum else RadiusAverage)(layer, self.domain, grids, path)
        odd = layer.ceil_mode or (not maximum and getattr(layer, "divisor_override", None))
        if odd or (not maximum and any(new.padding) and not layer.count_include_pad):
            return self._resampled(new, "windows at the border count differently from others")
        return self._windowed(new, "maximum within" if maximum else "mean over")

    def _windowed(self, new: Windowed, what: str) -> tuple[nn.Module | None, str]:
        if not new.keeps_domain:
            return self._resampled(new, f"padding {new.padding} makes the domain smaller")
        spacing = self.domain.level_spacing(new.sizes[0])
        spans = zip(new.kernel_size, new.dilation, spacing, strict=True)
        sizes = " by ".join(f"{(d * (k - 1) + 1) * h:.3g}" for k, d, h in spans)
        return new, f"{what}, {sizes} {self.domain.unit}".rstrip()

    def _resampled(self, layer: Converted, why: str) -> tuple[nn.Module, str]:
        # Behind such a layer the field is no longer periodic, so straight lines it is.
        new = Resampled(layer.original, self.domain, layer.sizes, layer.path, method="linear")
        return new, f"run on its training grid {layer.sizes[0]}, input and output resampled (linear): {why}"

    def _norm(self, path: str, layer: Any, grids: list[Grid]) -> tuple[nn.Module | None, str]:
        if isinstance(layer, BATCH) or (isinstance(layer, INSTANCE) and layer.track_running_stats):
            return layer, "in evaluation it acts at each point, with the statistics kept from training"
        if isinstance(layer, nn.LayerNorm):
            if len(layer.normalized_shape) == 1:
                return layer, ""
            shapes = [s[1:] for s in self.seen.inputs[id(layer)]]
            if tuple(layer.normalized_shape) not in shapes or not grids:
                return None, f"normalises over {tuple(layer.normalized_shape)}, which are not the channels and the grid"
        elif not grids:
            return layer, ""
        return WeightedNorm(layer, self.domain, grids, path), "mean and variance are integrals over the domain"

    def _embedding(self, path: str, layer: nn.Embedding) -> tuple[nn.Module | None, str]:
        index, points = self.seen.indices.get(id(layer)), math.prod(self.domain.grid)
        if index is None or index.shape[-1] != points:
            return layer, ""
        if not torch.equal(index, torch.arange(points, device=index.device).expand_as(index)):
            return layer, ""
        return PositionEmbedding(layer, self.domain, path), "a row for each point: samples of a function of position"

    def _linear(self, path: str, layer: nn.Linear) -> tuple[nn.Module | None, str]:
        shape = self.seen.flattened.get(layer.in_features)
        fed = any(len(s) == 2 for s in self.seen.inputs[id(layer)])
        if shape is None or not fed or shape in self.seen.fixed or all(n == 1 for n in shape[1:]):
            return layer, ""
        grid = " by ".join(map(str, shape[1:]))
        if not self.dense:
            return None, (
                f"dense over {shape[0]} channels at {grid} points of the training grid, a weight for each; dense=True makes them samples of "
                "functions of position, or pool over the domain before it"
            )
        return DenseIntegral(
            layer, self.domain, shape[0], shape[1:], path
        ), f"weights at {grid} points are samples of functions of position"

    def _grids(self, layer: nn.Module) -> list[Grid]:
        n = len(self.domain.grid)
        found: list[Grid] = []
        for shape in self.seen.inputs.get(id(layer), []):
            if len(shape) == n + 2 and shape[2:] not in found:
                found.append(shape[2:])
        return found

    def _method(self) -> str:
        return "fourier" if self.domain.boundary == "periodic" else "linear"
