"""Swimming to look at: an episode as a moving picture, the circuit as a graph, and the wave along the body."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from PIL import Image
from tqdm import tqdm

from nissl.errors import InputError
from nissl.report._swimmer_frames import Stage, palette

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Blue and orange are told apart with any colour vision.
DORSAL, VENTRAL = "#0072b2", "#d55e00"


def animate(
    episode: xr.Dataset,
    path: str | Path,
    *,
    start: float = 0.0,
    seconds: float = 9.0,
    every: int = 2,
    width: int = 800,
    progress: bool = False,
) -> Path:
    """An episode as a GIF, in real time: the body in the water, and below it the state of the circuit.

    Parameters
    ----------
    episode
        What `nissl.learning.swim` returned; of several bodies the first is shown.
    path
        The file to write, ending in `.gif`.
    start, seconds
        Which part of the episode, in s.
    every
        Control steps a frame.
    width
        In pixels.
    progress
        Show a bar where standard error is a terminal.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InputError
        No such file name or place, a part outside the episode, or a Dataset that is no episode.

    Notes
    -----
    The water is turned so that the body swims to the right. Along the body, blue is the pull of dorsal muscles and orange that of ventral ones. Where the
    policy's sites were recorded, each joint's column below shows its motor neurons (B) and muscles (M) of both sides: pale at rest, full at 1.

    Examples
    --------
    >>> import tempfile
    >>> from nissl.learning import swim
    >>> from nissl.nn import WormSwimmer
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     animate(swim(WormSwimmer(), steps=20), f"{folder}/swim.gif", seconds=0.5, width=320).name
    'swim.gif'
    """
    episode = _one(episode)
    path = Path(path)
    if path.suffix.lower() != ".gif":
        raise InputError(f"{path.name!r} is no name of a GIF; let it end in .gif")
    if every < 1 or width < 200 or not seconds > 0:
        raise InputError(
            f"every {every}, width {width}, seconds {seconds}; give every from 1, width from 200, and some time"
        )
    time = episode["time"].to_numpy()
    shown = np.flatnonzero((time >= start - 1e-9) & (time < start + seconds - 1e-9))[::every]
    if not len(shown):
        raise InputError(f"nothing from {start} s on; the episode lasts {time[-1]:.2f} s")
    stage = Stage(episode, width)
    frames = [stage.draw(int(i)) for i in tqdm(shown, unit="frame", disable=None if progress else True, leave=False)]
    # One palette for all frames keeps colours still and the file small.
    colours = palette()
    flat = [frame.quantize(palette=colours, dither=Image.Dither.NONE) for frame in frames]
    step = float(time[1] - time[0]) if len(time) > 1 else 0.03
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        flat[0].save(path, save_all=True, append_images=flat[1:], duration=round(1000 * every * step), loop=0)
    except OSError as error:
        raise InputError(
            f"the picture cannot be written to {str(path)!r}: {error.strerror}; choose another place"
        ) from error
    return path


def kymograph(episode: xr.Dataset, *, start: float = 0.0, seconds: float = 9.0) -> Figure:
    """The wave: motor neurons, commands and angles of all joints over time, head at the top.

    Parameters
    ----------
    episode
        What `nissl.learning.swim` returned; of several bodies the first is shown.
    start, seconds
        Which part of the episode, in s.

    Returns
    -------
    matplotlib.figure.Figure
        A wave that travels to the tail is a stripe that falls to the right.

    Raises
    ------
    InputError
        A part outside the episode, or a Dataset that is no episode.
    """
    import matplotlib.pyplot as plt

    episode = _one(episode)
    part = episode.sel(time=slice(start, start + seconds))
    if part.sizes["time"] < 2:
        raise InputError(f"nothing from {start} s on; the episode lasts {float(episode['time'][-1]):.2f} s")
    rows: list[tuple[str, Any]] = []
    if "bneuron.dorsal" in part and part["bneuron.dorsal"].dims == part["angle"].dims:
        rows.append(("B neurons, dorsal − ventral", part["bneuron.dorsal"] - part["bneuron.ventral"]))
    rows.append(("command: muscles, dorsal − ventral", part["command"]))
    rows.append(("joint angle / limit", part["angle"] / episode.attrs["joint_limit"]))
    figure, axes = plt.subplots(len(rows), 1, sharex=True, figsize=(8, 1.55 * len(rows) + 0.6), layout="constrained")
    time, joints = part["time"].to_numpy(), part.sizes["joint"]
    images = []
    for axis, (label, values) in zip(np.atleast_1d(axes), rows, strict=True):
        image = axis.imshow(
            values.transpose("joint", "time"), aspect="auto", cmap=_colours(), vmin=-1, vmax=1, interpolation="nearest",
            extent=(time[0], time[-1], joints - 0.5, -0.5),
        )  # fmt: skip
        images.append(image)
        axis.set_yticks(range(joints))
        axis.set_yticklabels(["head", *[""] * (joints - 2), "tail"])
        axis.set_title(label, loc="left", fontsize=10)
    np.atleast_1d(axes)[-1].set_xlabel("time (s)")
    figure.supylabel("joint", fontsize=10)
    bar = figure.colorbar(images[-1], ax=axes, shrink=0.8, ticks=[-1, 0, 1])
    bar.ax.set_yticklabels(["ventral", "0", "dorsal"])
    return figure


def _colours() -> Any:
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("sides", [VENTRAL, "#f6f4ef", DORSAL])


def draw_circuit(policy: Any, path: str | Path | None = None) -> Figure:
    """The worm's circuit as a graph, from head to tail, with the sign and size of every kind of synapse.

    Parameters
    ----------
    policy
        A `nissl.nn.WormSwimmer`, or a policy with one as its `circuit`.
    path
        Where to write the picture (`.png`, `.svg`, `.pdf`), if anywhere.

    Returns
    -------
    matplotlib.figure.Figure
        Arrows excite and bars inhibit; synapses of weight zero are dotted. Thin grey lines are mechanics: muscles bend joints, and joints stretch
        sensors.

    Raises
    ------
    InputError
        A policy without such a graph, or a place that cannot be written.

    Examples
    --------
    >>> from nissl.nn import WormSwimmer
    >>> len(draw_circuit(WormSwimmer(3)).axes)
    1
    """
    from nissl.report._circuit_drawing import draw

    circuit = getattr(policy, "circuit", policy)
    if not callable(getattr(circuit, "graph", None)):
        raise InputError(f"{type(policy).__name__} has no graph; give a nissl.nn.WormSwimmer")
    figure = draw(circuit.graph())
    if path is not None:
        try:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            figure.savefig(path, dpi=150)
        except (OSError, ValueError) as error:
            raise InputError(
                f"the picture cannot be written to {str(path)!r}: {error}; choose another place"
            ) from error
    return figure


def _one(episode: xr.Dataset) -> xr.Dataset:
    if not isinstance(episode, xr.Dataset) or not {"angle", "command", "x", "y", "forward_speed"} <= set(episode):
        raise InputError("this is no episode; give what nissl.learning.swim returns")
    return episode.isel(sample=0) if "sample" in episode.dims else episode
