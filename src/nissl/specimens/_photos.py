"""Photographs that scikit-image and scikit-learn carry."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from PIL import Image

from nissl.errors import unknown


@lru_cache
def _paths() -> dict[str, Path]:
    """Every photograph that lies on this disk; the larger data sets of these packages would have to be downloaded."""
    import skimage
    import sklearn

    wanted = (
        "astronaut", "brick", "camera", "chelsea", "coffee", "coins", "grass", "gravel", "hubble_deep_field", "moon", "motorcycle_left",
        "retina", "rocket",
    )  # fmt: skip
    folder = Path(skimage.__file__).parent / "data"
    found = {p.stem: p for p in sorted(folder.iterdir()) if p.stem in wanted and p.suffix in (".png", ".jpg", ".jpeg")}
    images = Path(sklearn.__file__).parent / "datasets" / "images"
    found.update({p.stem: p for p in sorted(images.glob("*.jpg"))})
    return found


def photos() -> list[str]:
    """Names of the sample photographs.

    Examples
    --------
    >>> "chelsea" in photos()
    True
    """
    return list(_paths())


def photo(name: str) -> Image.Image:
    """A sample photograph as RGB.

    Raises
    ------
    UnknownNameError
        No such photograph; the message lists the nearest.

    Examples
    --------
    >>> photo("chelsea").size
    (451, 300)
    """
    paths = _paths()
    if name not in paths:
        raise unknown("photograph", name, paths)
    with Image.open(paths[name]) as image:
        return image.convert("RGB")
