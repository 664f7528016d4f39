"""A small convolutional network that says which shapes a scene holds: where it looks can be checked against where they
are.
"""

from __future__ import annotations

import os
from collections import OrderedDict

import numpy as np
import torch
from jaxtyping import Bool, Float
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from nissl.cache import cache_folder
from nissl.errors import InputError
from nissl.specimens._scenes import SHAPES, Scenes, scenes

MEAN, STD = 0.5, 0.25
_PICTURES, _EPOCHS, _SEED, _VERSION = 8_000, 5, 0, 1


def scene_network(n_classes: int, widths: tuple[int, ...] = (16, 32, 48, 64, 64)) -> nn.Sequential:
    """Five convolutions, global average pooling and a linear head, for 64 x 64 pictures; the last map is 16 x 16.

    With global pooling before a linear head, Grad-CAM and class activation mapping agree exactly, which makes it a good
    test object.
    """
    layers: list[nn.Module] = []
    before = 3
    for i, width in enumerate(widths):
        layers += [
            nn.Conv2d(before, width, 3, stride=2 if i < 2 else 1, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(),
        ]  # fmt: skip
        before = width
    parts = {"features": nn.Sequential(*layers), "pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()}
    return nn.Sequential(OrderedDict(parts, head=nn.Linear(before, n_classes)))


def scene_input(images: np.ndarray) -> Float[Tensor, "sample channel y x"]:
    """8-bit pictures `(sample, y, x, channel)` as the scene networks take them."""
    pixels = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 255
    return (pixels - MEAN) / STD


def train_scene_classifier(
    pictures: Scenes,
    labels: Bool[np.ndarray, "sample class"] | None = None,
    *,
    epochs: int = _EPOCHS,
    batch_size: int = 64,
    lr: float = 8e-3,
    seed: int = 0,
) -> nn.Sequential:
    """Train a fresh network to say which of several things each picture holds.

    Parameters
    ----------
    pictures
        Scenes of 64 x 64 pixels.
    labels
        What each picture holds, a column a class; the shapes where None. Every class is a yes-or-no question of its own
        (binary cross-entropy), so that pictures may hold several.
    epochs, batch_size, lr, seed
        Settings of the training (Adam with a one-cycle rate).

    Returns
    -------
    The network in evaluation mode; its outputs are logits.

    Raises
    ------
    InputError
        As many labels as pictures are needed.
    """
    answers = pictures.shape_labels() if labels is None else np.asarray(labels)
    if len(answers) != len(pictures) or answers.ndim != 2:
        raise InputError(
            f"labels of shape {answers.shape} for {len(pictures)} pictures; give a row a picture, a column a class"
        )
    with torch.random.fork_rng(
        devices=[]
    ):  # the initial weights come from the seed, the caller's generator stays untouched
        torch.manual_seed(seed)
        network = scene_network(answers.shape[1])
    shuffle = torch.Generator().manual_seed(seed)
    target = torch.from_numpy(answers.astype(np.float32))
    network = network.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    optimiser = torch.optim.Adam(network.parameters(), lr=lr)
    steps = epochs * -(-len(target) // batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, lr, total_steps=steps, pct_start=0.2)
    for _ in range(epochs):
        for index in torch.randperm(len(target), generator=shuffle).split(batch_size):
            x = scene_input(pictures.images[index.numpy()]).contiguous(memory_format=torch.channels_last)
            loss = nn.functional.binary_cross_entropy_with_logits(network(x), target[index])
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
            schedule.step()
    return network.to(memory_format=torch.contiguous_format).eval()  # type: ignore[call-overload]


def cached_scene_classifier() -> nn.Sequential:
    """The shape classifier, trained when it is first asked for and kept in the cache folder (`NISSL_CACHE`, else
    `~/.cache/nissl`).
    """
    path = cache_folder() / f"scenes-v{_VERSION}-{_PICTURES}-{_EPOCHS}-{_SEED}.safetensors"
    network = scene_network(len(SHAPES))
    if path.is_file():
        try:
            network.load_state_dict(load_file(path))
            return network.eval()
        except Exception:
            path.unlink(missing_ok=True)
    trained = train_scene_classifier(scenes(_PICTURES, seed=_SEED), seed=_SEED)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}.partial")
        save_file(trained.state_dict(), temporary)
        temporary.replace(path)  # whole or not at all, also with two processes at once
    except OSError:
        pass  # a home that cannot be written only costs the next process its training time
    return trained


__all__ = ["SHAPES", "cached_scene_classifier", "scene_input", "scene_network", "train_scene_classifier"]
