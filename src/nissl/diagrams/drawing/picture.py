"""From a diagram to a file: how much is shown, and as what it is written."""

from __future__ import annotations

import contextlib
import os
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from nissl.diagrams._constants import constants_folded
from nissl.diagrams._grouping import nested
from nissl.diagrams._sizes import at_example
from nissl.diagrams.circuit import CircuitDiagram
from nissl.diagrams.drawing.assembly import PAGE, picture_of
from nissl.diagrams.drawing.labels import peak_of
from nissl.diagrams.drawing.primitives import Picture
from nissl.diagrams.drawing.svg import svg_of
from nissl.diagrams.drawing.theme import Theme, check_theme
from nissl.diagrams.folding import Reach, folded, highlight, to_depth, without_unused
from nissl.errors import InputError, StoreError

READABLE = 40  # operations
SUFFIXES = (".svg", ".png", ".html", ".txt", ".json")


class View(NamedTuple):
    """What is drawn: the diagram after folding, its picture, and what stays bright."""

    diagram: CircuitDiagram
    picture: Picture
    reach: Reach | None


def view_of(
    diagram: CircuitDiagram,
    *,
    depth: int | None = None,
    fold: bool = True,
    costs: bool = True,
    highlight: tuple[str, int] | None = None,
    width: float = PAGE,
) -> View:
    """Choose how much to show and lay it out; see `to_svg` for what the arguments mean."""
    if not diagram.operations:
        made = any("made up" in n for n in diagram.notes)
        why = "; the input that was made up for it led to none: give one of your own, or its shape" if made else ""
        raise InputError(f"diagram {diagram.name!r} has no operations to draw{why}")
    if not width >= 300:
        raise InputError(f"width {width!r}; allowed: 300 pixels or more")
    unit = highlight
    whole = _followed(diagram, unit) if unit is not None else None
    simple = without_unused(diagram)
    base = constants_folded(simple) if fold else simple
    home = next((o.module for o in diagram.operations if whole is not None and whole.array in o.outputs), "")
    shown = shown_part(base, depth, fold and unit is None, home)
    reach = _reach_in(shown, whole) if whole is not None else None
    total = (diagram.flops(), len(diagram.operations))
    most = peak_of(diagram) if costs else None
    peak = at_example(diagram, most) if most is not None else None
    return View(shown, picture_of(shown, costs=costs, reach=reach, page=width, peak=peak, total=total), reach)


def shown_part(diagram: CircuitDiagram, depth: int | None, fold: bool, opened: str = "") -> CircuitDiagram:
    """The diagram at a depth, folded; without a depth the deepest that is still readable. One module's insides may be asked for."""
    if depth is not None:
        cut = to_depth(diagram, depth, opened)
        return folded(cut) if fold else cut
    whole = folded(diagram) if fold else diagram
    if len(whole.operations) <= READABLE:
        return whole
    deepest = max(len(nested(diagram, m)) for m in {o.module for o in diagram.operations})
    best = whole if not deepest else None
    for level in range(deepest):
        cut = to_depth(diagram, level, opened)
        cut = folded(cut) if fold else cut
        if best is not None and len(cut.operations) > READABLE:
            break
        best = cut
    return best if best is not None else whole


def _followed(diagram: CircuitDiagram, unit: tuple[str, int]) -> Reach:
    if not (isinstance(unit, tuple) and len(unit) == 2):
        raise InputError(
            f"highlight {unit!r}; allowed: a pair of a module's path and a unit, such as ('layers.0.linear1', 7)"
        )
    return highlight(diagram, *unit)


def _reach_in(shown: CircuitDiagram, reach: Reach) -> Reach:
    """What is reached of a folded diagram: a box where something that it gives is."""
    steps = {o.name for o in shown.operations if o.name in reach.operations}
    steps |= {o.name for o in shown.operations if o.kind == "module" and reach.arrays.intersection(o.outputs)}
    steps -= {o.name for o in shown.operations if reach.array in o.outputs}
    return replace(reach, operations=frozenset(steps))


def to_svg(
    diagram: CircuitDiagram,
    *,
    depth: int | None = None,
    fold: bool = True,
    theme: Theme = "auto",
    costs: bool = True,
    highlight: tuple[str, int] | None = None,
    width: float = PAGE,
) -> str:
    """Draw a diagram as SVG.

    Parameters
    ----------
    diagram
        What `nissl.diagrams.circuit` made of a module, or any other.
    depth
        Modules deeper than this are drawn as one box each; 0 shows the network's children. None takes the deepest at which the
        picture has no more than about forty operations.
    fold
        Whether runs of identical siblings are drawn once, with how often they repeat.
    theme
        `light`, `dark`, or `auto`, which follows the reader's page.
    costs
        Whether operations and bytes of every step stand beneath it.
    highlight
        A module's path and a unit: everything that the unit does not reach turns pale.
    width
        Pixels at which rows end.

    Returns
    -------
    str
        The same bytes for the same diagram. Columns of data are `g.column`, operations `g.operation`, labels of axes `text.wire`,
        dashed lines between arrays `line.strip`, weights `text.weight` with their path and shape.

    Raises
    ------
    InputError
        No operations, a negative depth, a width under 300.
    UnknownNameError
        A theme or module that does not exist.

    References
    ----------
    Abbott 2024, Neural Circuit Diagrams, Transactions on Machine Learning Research.

    Examples
    --------
    >>> from nissl.diagrams.circuit import Array, Axis, CircuitDiagram, Operation
    >>> from nissl.diagrams.drawing import to_svg
    >>> steps = (Operation("f", "elementwise", "tanh", ("x",), ("y",), broadcast=("model",)),)
    >>> d = CircuitDiagram("f", {"model": Axis("model", 3)}, {n: Array(n, ("model",)) for n in "xy"}, steps, ("x",), ("y",))
    >>> to_svg(d).count('class="operation"')
    1
    """
    check_theme(theme)
    return svg_of(
        view_of(diagram, depth=depth, fold=fold, costs=costs, highlight=highlight, width=width).picture, theme
    )


def to_html(diagram: CircuitDiagram, *, theme: Theme = "auto", **options: Any) -> str:
    """A page of its own: the picture, notes, and a table of all operations; it opens without a network.

    Takes what `to_svg` takes. Resting the pointer on a wire follows its axis through the whole picture.
    """
    from nissl.diagrams.drawing.page import page_of

    check_theme(theme)
    return page_of(diagram, view_of(diagram, **options), theme)


def to_image(diagram: CircuitDiagram, *, theme: Theme = "light", scale: float = 2.0, **options: Any) -> Any:
    """The picture as a `PIL.Image`, `scale` pixels for each of the SVG's; takes what `to_svg` takes, `auto` is light.

    A picture too large for that is scaled down, with a warning; an SVG or less depth shows more.
    """
    from nissl.diagrams.drawing.png import image_of

    check_theme(theme)
    return image_of(view_of(diagram, **options).picture, theme, scale)


def checked_path(path: str | Path) -> Path:
    """A path whose suffix says what to write.

    Raises
    ------
    InputError
        Another suffix, or a folder.
    StoreError
        A place that cannot be written.
    """
    found = Path(path).expanduser()
    if found.suffix.lower() not in SUFFIXES:
        raise InputError(
            f"cannot write {found.suffix or 'a file without suffix'!r} ({str(found)!r}); allowed: {', '.join(SUFFIXES)}"
        )
    if found.is_dir():
        raise InputError(f"{str(found)!r} is a folder; give a file that ends in one of {', '.join(SUFFIXES)}")
    above = next((p for p in found.absolute().parents if p.exists()), found.absolute().parent)
    if not above.is_dir() or not os.access(found if found.exists() else above, os.W_OK):
        raise StoreError(
            f"{str(found)!r} cannot be written: {str(above)!r} is {'not a folder' if not above.is_dir() else 'not yours to write in'}"
        )
    return found


def save(diagram: CircuitDiagram, path: str | Path, **options: Any) -> Path:
    """Write a diagram; the suffix says as what: `.svg`, `.png`, `.html`, `.txt` or `.json`.

    Takes what `to_svg` takes; text and JSON are always of the whole diagram, as only that can be read back. A large PNG is scaled
    down, with a warning; an SVG or less depth shows more.

    Raises
    ------
    InputError
        Another suffix, or an option that text does not have.
    StoreError
        A place that cannot be written.
    """
    target = checked_path(path)
    suffix = target.suffix.lower()
    if suffix in (".txt", ".json") and options:
        raise InputError(f"{suffix} holds the whole diagram and takes no options; given {', '.join(options)}")
    written: str | bytes
    if suffix == ".png":
        import io

        buffer = io.BytesIO()
        to_image(diagram, **options).save(buffer, "png")
        written = buffer.getvalue()
    elif suffix == ".svg":
        written = to_svg(diagram, **options)
    elif suffix == ".html":
        written = to_html(diagram, **options)
    else:
        written = diagram.to_text() if suffix == ".txt" else diagram.to_json()
    part = target.with_name(target.name + ".partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(written if isinstance(written, bytes) else written.encode())
        part.replace(target)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        raise StoreError(f"{str(target)!r} cannot be written: {error.strerror}") from None
    return target
