"""Which inputs mattered? Grad-CAM and its relatives, captum's methods, attention, and one door to all of them."""

from nissl.attribution._door import attribute, methods
from nissl.attribution._features import blurred
from nissl.attribution.attention import attention, attention_rollout
from nissl.attribution.captum_methods import (
    deep_lift,
    gradient_shap,
    input_x_gradient,
    integrated_gradients,
    kernel_shap,
    lime,
    occlusion,
    saliency,
)
from nissl.attribution.channel_text import ChannelText, channel_text, exemplars, name_channels
from nissl.attribution.grad_cam import channel_importance, grad_cam
from nissl.attribution.guided import guided_backprop, guided_grad_cam

__all__ = [
    "ChannelText",
    "attention",
    "attention_rollout",
    "attribute",
    "blurred",
    "channel_importance",
    "channel_text",
    "deep_lift",
    "exemplars",
    "grad_cam",
    "gradient_shap",
    "guided_backprop",
    "guided_grad_cam",
    "input_x_gradient",
    "integrated_gradients",
    "kernel_shap",
    "lime",
    "methods",
    "name_channels",
    "occlusion",
    "saliency",
]
