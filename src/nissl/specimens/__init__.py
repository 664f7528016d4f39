"""Something real to look at: networks, photographs, drawn scenes, digits, and fields that solve equations, all offline."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_HOME = {
    "Digits": "_digits",
    "ImageSpec": "_networks",
    "NetworkSpecimen": "_networks",
    "Scenes": "_scenes",
    "Stories": "_stories",
    "burgers": "_evolution",
    "darcy_flow": "_elliptic",
    "digits": "_digits",
    "helmholtz": "_helmholtz",
    "navier_stokes": "_navier_stokes",
    "load_model": "_networks",
    "model_names": "_networks",
    "poisson": "_elliptic",
    "photo": "_photos",
    "photos": "_photos",
    "scenes": "_scenes",
    "scene_input": "_scene_classifier",
    "stories": "_stories",
    "train_scene_classifier": "_scene_classifier",
}

if TYPE_CHECKING:
    from nissl.specimens._digits import Digits, digits
    from nissl.specimens._elliptic import darcy_flow, poisson
    from nissl.specimens._evolution import burgers
    from nissl.specimens._helmholtz import helmholtz
    from nissl.specimens._navier_stokes import navier_stokes
    from nissl.specimens._networks import ImageSpec, NetworkSpecimen, load_model, model_names
    from nissl.specimens._photos import photo, photos
    from nissl.specimens._scene_classifier import scene_input, train_scene_classifier
    from nissl.specimens._scenes import Scenes, scenes
    from nissl.specimens._stories import Stories, stories

__all__ = [
    "Digits",
    "ImageSpec",
    "NetworkSpecimen",
    "Scenes",
    "Stories",
    "burgers",
    "darcy_flow",
    "digits",
    "helmholtz",
    "load_model",
    "model_names",
    "navier_stokes",
    "photo",
    "photos",
    "poisson",
    "scene_input",
    "scenes",
    "stories",
    "train_scene_classifier",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'nissl.specimens' has no attribute {name!r}")
    return getattr(importlib.import_module(f"nissl.specimens.{_HOME[name]}"), name)
