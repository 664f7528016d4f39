"""Something real to look at: networks, photographs, drawn scenes and digits, all offline."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_HOME = {
    "Digits": "digits",
    "ImageSpec": "networks",
    "NetworkSpecimen": "networks",
    "Scenes": "scenes",
    "digits": "digits",
    "load_model": "networks",
    "model_names": "networks",
    "photo": "photos",
    "photos": "photos",
    "scenes": "scenes",
    "train_scene_classifier": "scene_classifier",
}

if TYPE_CHECKING:
    from nissl.specimens.digits import Digits, digits
    from nissl.specimens.networks import ImageSpec, NetworkSpecimen, load_model, model_names
    from nissl.specimens.photos import photo, photos
    from nissl.specimens.scene_classifier import train_scene_classifier
    from nissl.specimens.scenes import Scenes, scenes

__all__ = [
    "Digits",
    "ImageSpec",
    "NetworkSpecimen",
    "Scenes",
    "digits",
    "load_model",
    "model_names",
    "photo",
    "photos",
    "scenes",
    "train_scene_classifier",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'nissl.specimens' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"nissl.specimens.{_HOME[name]}"), name)
    globals()[name] = value  # a function of the same name as its module must win over the module
    return value
