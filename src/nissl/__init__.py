"""Make individual neurons visible, in trained networks and in recorded brains, with a test beside every explanation.

Rooms and names are imported when they are first used, so that `import nissl` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_ROOMS = (
    "activity", "attribution", "comparison", "diagrams", "errors", "evaluation", "interventions", "learning", "models", "nn", "papers", "populations", "recordings",
    "report", "specimens", "statistics",
)  # fmt: skip
_NAMES = {
    "load": "models",
    "Model": "models",
    "record": "activity",
    "intervene": "interventions",
    "Clamp": "interventions",
    "Ablate": "interventions",
    "Patch": "interventions",
    "Steer": "interventions",
    "explain": "report",
    "survey": "report",
}

if TYPE_CHECKING:
    from nissl import (
        activity,
        attribution,
        comparison,
        diagrams,
        errors,
        evaluation,
        interventions,
        learning,
        models,
        nn,
        papers,
        populations,
        recordings,
        report,
        specimens,
        statistics,
    )
    from nissl.activity import record
    from nissl.interventions import Ablate, Clamp, Patch, Steer, intervene
    from nissl.models import Model, load
    from nissl.report import explain, survey

__all__ = [
    "Ablate",
    "Clamp",
    "Model",
    "Patch",
    "Steer",
    "activity",
    "attribution",
    "comparison",
    "diagrams",
    "errors",
    "evaluation",
    "explain",
    "intervene",
    "interventions",
    "learning",
    "load",
    "models",
    "nn",
    "papers",
    "populations",
    "record",
    "recordings",
    "report",
    "specimens",
    "statistics",
    "survey",
]


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(f"nissl.{name}")
    if name in _NAMES:
        return getattr(importlib.import_module(f"nissl.{_NAMES[name]}"), name)
    raise AttributeError(f"module 'nissl' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
