"""What is this network? Opening it, its sites, and the taps that read and change them."""

from nissl.models.images import Frame, open_image
from nissl.models.inputs import Inputs
from nissl.models.load import load
from nissl.models.model import Model
from nissl.models.probe import Probe, stepping
from nissl.models.sites import Site, Sites
from nissl.models.taps import StopForward, check_called_once, run_until, tap
from nissl.models.targets import Target, class_scores, resolve_target

__all__ = [
    "Frame",
    "Inputs",
    "Model",
    "Probe",
    "Site",
    "Sites",
    "StopForward",
    "Target",
    "check_called_once",
    "class_scores",
    "load",
    "open_image",
    "resolve_target",
    "run_until",
    "stepping",
    "tap",
]
