"""Which inputs mattered? Grad-CAM and its relatives, and one door to every method."""

from nissl.attribution.grad_cam import channel_importance, grad_cam
from nissl.attribution.guided import guided_backprop, guided_grad_cam

__all__ = ["channel_importance", "grad_cam", "guided_backprop", "guided_grad_cam"]
