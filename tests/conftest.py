"""What many tests share: one real network and one photograph a worker, one cache for all."""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # nothing may wait for a network in a test
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
from PIL import Image

import nissl


def pytest_configure() -> None:
    torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not torch.cuda.is_available():
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="needs a GPU"))


@pytest.fixture(scope="session")
def efficientnet() -> nissl.Model:
    """EfficientNet-Lite0 with its ImageNet weights; not to be changed."""
    return nissl.load("efficientnet-lite0")


@pytest.fixture(scope="session")
def chelsea() -> Image.Image:
    """A photograph of a cat."""
    return nissl.specimens.photo("chelsea")
