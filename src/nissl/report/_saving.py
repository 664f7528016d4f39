"""What every report can do: become a page, a file, a frame in a notebook."""

from __future__ import annotations

import html
import math
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from nissl.errors import InputError


class Saved:
    """A result that is read as one self-contained HTML page."""

    def to_html(self) -> str:
        """The self-contained page."""
        raise NotImplementedError

    def save(self, path: str | Path) -> Path:
        """Write the report; returns its path.

        Raises
        ------
        InputError
            The place cannot be written.
        """
        path = Path(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self.to_html(), encoding="utf-8")
        except OSError as error:
            raise InputError(
                f"the report cannot be written to {str(path)!r}: {error.strerror}; choose another place"
            ) from error
        return path

    def _repr_html_(self) -> str:
        page = html.escape(self.to_html(), quote=True)
        return f'<iframe srcdoc="{page}" style="width:100%;height:80vh;border:0"></iframe>'


def environment() -> Environment:
    """The templates, and how numbers are written in them."""
    made = Environment(
        loader=PackageLoader("nissl.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["percent"] = lambda v: f"{v:.0%}" if v >= 0.01 else "<1%"
    made.filters["signed"] = lambda v: f"{v:+.2f}".replace("-", "−")
    made.filters["number"] = number
    return made


def number(value: float) -> str:
    """Two decimals, or three figures where two decimals would say nothing.

    Examples
    --------
    >>> number(-0.5), number(0.00123), number(1234.5)
    ('−0.50', '0.00123', '1234')
    """
    if value != value:
        return "–"
    size = abs(value)
    text = f"{value:.3g}" if 0 < size < 0.1 else f"{value:.2f}" if size < 100 else f"{value:.0f}"
    return text.replace("-", "−")


def plain(value: Any) -> Any:
    """Numbers, lists and dictionaries that JSON knows; what is not a number is None.

    Examples
    --------
    >>> import numpy as np
    >>> plain({"p": np.float64("nan"), "n": np.arange(2)})
    {'p': None, 'n': [0, 1]}
    """
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
