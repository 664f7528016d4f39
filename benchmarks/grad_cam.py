"""Grad-CAM for a batch: nissl, captum, and what the job needs at least."""

from __future__ import annotations

import torch
from captum.attr import LayerGradCam
from timing import in_turn, table

import nissl


def main() -> str:
    net = nissl.load("efficientnet-lite0")
    names = ("chelsea", "coffee", "camera", "rocket", "china", "flower", "astronaut", "motorcycle_left")
    x = net.prepare([nissl.specimens.photo(n) for n in names]).main
    target = net.class_index("tabby")
    captum = LayerGradCam(net.module, net.module._avg_pooling)

    def bare() -> None:
        with torch.no_grad():
            net.module(x)

    def needed() -> None:
        """The forward pass, with a graph from the layer on only, and the backward pass to it."""
        with torch.no_grad():
            features = net.module.extract_features(x)
        features = features.detach().requires_grad_()
        score = net.module._fc(net.module._avg_pooling(features).flatten(1))[:, target]
        torch.autograd.grad(score.sum(), features)

    times = in_turn(
        {
            "bare forward pass": bare,
            "forward and the backward part needed": needed,
            "nissl.attribution.grad_cam": lambda: nissl.attribution.grad_cam(net, x, target),
            "captum LayerGradCam": lambda: captum.attribute(
                x, target=target, attribute_to_layer_input=True, relu_attributions=True
            ),
        }
    )
    ours, least, theirs = (
        times[k] for k in ("nissl.attribution.grad_cam", "forward and the backward part needed", "captum LayerGradCam")
    )
    note = f"nissl takes {ours / least:.2f} of what the job needs (aim 1.10) and {ours / theirs:.2f} of captum's time (aim 0.80)."
    note += " pytorch-grad-cam imports torchvision and is left out."
    return table("Grad-CAM, batch of 8, EfficientNet-Lite0, 224 x 224", times, "bare forward pass", note)


if __name__ == "__main__":
    print(main())
