"""Draw circuit diagrams: a layout, its primitives, and SVG, pixels or a page made of them."""

from nissl.diagrams.drawing.picture import save, to_html, to_image, to_svg
from nissl.diagrams.drawing.primitives import overlapping
from nissl.diagrams.drawing.remembering import draw

__all__ = ["draw", "overlapping", "save", "to_html", "to_image", "to_svg"]
