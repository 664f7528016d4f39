"""Opening photographs as people have them, and making of them what a network wants."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from nissl.errors import InputError
from nissl.specimens import ImageSpec

MAX_MEGAPIXELS = 178  # where Pillow itself takes a picture for a decompression bomb
MIN_SIDE = 8


@dataclass(frozen=True)
class Frame:
    """Which part of a photograph the network's pixels show.

    Attributes
    ----------
    width, height
        Size of the photograph in pixels.
    left, top, right, bottom
        The rectangle that was resized to the network's input, in pixels of the photograph.
    """

    width: int
    height: int
    left: float
    top: float
    right: float
    bottom: float

    def coords(self, h: int, w: int) -> tuple[Float[np.ndarray, "y"], Float[np.ndarray, "x"]]:
        """Where the centres of an `h` by `w` grid lie in the photograph, in pixels from its upper left corner.

        Examples
        --------
        >>> y, x = Frame(100, 50, 25, 0, 75, 50).coords(2, 2)
        >>> y.tolist(), x.tolist()
        ([12.5, 37.5], [37.5, 62.5])
        """
        y = self.top + (np.arange(h) + 0.5) * (self.bottom - self.top) / h
        x = self.left + (np.arange(w) + 0.5) * (self.right - self.left) / w
        return y, x


def open_image(source: Any) -> Image.Image:
    """A picture as upright 8-bit RGB, from whatever a person holds.

    Parameters
    ----------
    source
        A path, a PIL image, or an array `(y, x)` or `(y, x, channel)`: 8-bit, 16-bit, or floats from 0 to 1. Grey
        becomes RGB, transparency is laid on white, 16 bits are scaled to 8, the EXIF rotation is carried out.

    Raises
    ------
    InputError
        The file is missing, is no picture, is damaged, or has too few or too many pixels.
    """
    if isinstance(source, str | Path):
        image = _read(Path(source))
    elif isinstance(source, Image.Image):
        image = source
    else:
        image = _from_array(np.asarray(source))
    name = f"{str(source)!r}" if isinstance(source, str | Path) else "the picture"
    if min(image.size) < MIN_SIDE:
        raise InputError(
            f"{name} has {image.width} x {image.height} pixels; there is nothing to explain in fewer than "
            f"{MIN_SIDE} x {MIN_SIDE}"
        )
    return _to_rgb(ImageOps.exif_transpose(image))


def to_pixels(image: Image.Image, spec: ImageSpec) -> tuple[Float[Tensor, "channel y x"], Frame]:
    """Crop, resize and normalise a photograph as the network was trained to see it.

    Returns
    -------
    The normalised picture and the frame that says which part of the photograph it shows.
    """
    side = spec.crop * min(image.size)
    box = (
        (image.width - side) / 2, (image.height - side) / 2, (image.width + side) / 2, (image.height + side) / 2,
    )  # fmt: skip
    if spec.crop == 0:  # the whole photograph, squeezed into the square
        box = (0.0, 0.0, float(image.width), float(image.height))
    filters = Image.Resampling[spec.interpolation.upper()]
    resized = image.resize((spec.size, spec.size), filters, box=box, reducing_gap=3.0)
    pixels = torch.from_numpy(np.array(resized, dtype=np.float32)).permute(2, 0, 1) / 255
    mean, std = (torch.tensor(v, dtype=torch.float32)[:, None, None] for v in (spec.mean, spec.std))
    return (pixels - mean) / std, Frame(image.width, image.height, *box)


def _read(path: Path) -> Image.Image:
    if not path.exists():
        near = _neighbours(path)
        raise InputError(f"there is no file {str(path)!r}" + (f"; nearest: {near}" if near else ""))
    if path.is_dir():
        raise InputError(f"{str(path)!r} is a folder; name one picture in it")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(path)
            image.load()
    except Image.DecompressionBombError:
        raise InputError(f"{str(path)!r} has more than {MAX_MEGAPIXELS} megapixels; make it smaller first") from None
    except UnidentifiedImageError:
        raise InputError(f"{str(path)!r} is no picture that can be read (its content, not its name, decides)") from None
    except PermissionError:
        raise InputError(f"{str(path)!r} may not be read: permission denied") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{str(path)!r} is damaged or cut short: {error}") from None
    return image


def _neighbours(path: Path) -> str:
    from nissl.errors import nearest

    if not path.parent.is_dir():
        return ""
    return ", ".join(repr(n) for n in nearest(path.name, (p.name for p in path.parent.iterdir()), n=3))


def _from_array(array: np.ndarray) -> Image.Image:
    shape = "x".join(map(str, array.shape))
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 2, 3, 4)) or 0 in array.shape:
        raise InputError(f"an array of shape {shape} is no picture; allowed: (y, x), (y, x, 1), (y, x, 3) or (y, x, 4)")
    if array.dtype == np.uint16:
        array = (array // 257).astype(np.uint8)
    elif array.dtype == bool:
        array = array.astype(np.uint8) * 255
    elif np.issubdtype(array.dtype, np.floating):
        if not np.isfinite(array).all():
            raise InputError("the picture holds NaN or infinite pixels")
        if array.min() < 0 or array.max() > 1:
            raise InputError(
                f"floating-point pictures run from 0 to 1, this one from {array.min():.3g} to {array.max():.3g}; "
                "scale it, or give 8-bit pixels"
            )
        array = np.round(array * 255).astype(np.uint8)
    elif array.dtype != np.uint8:
        raise InputError(f"pixels of type {array.dtype}; allowed: uint8, uint16, bool, or floats from 0 to 1")
    return Image.fromarray(array[:, :, 0] if array.ndim == 3 and array.shape[2] == 1 else array)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":  # Pillow's own conversion would clip these at 255
        grey = np.asarray(image, dtype=np.float64)
        image = Image.fromarray(
            np.clip(np.round(grey * (255 / _white(image.mode, grey.max()))), 0, 255).astype(np.uint8)
        )
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _white(mode: str, brightest: float) -> float:
    """The value that stands for white in a grey picture of more than 8 bits."""
    if mode.startswith("I;16"):
        return 65535.0
    if mode == "F":
        return 1.0 if brightest <= 1 else 255.0
    return 65535.0 if brightest > 255 else 255.0
