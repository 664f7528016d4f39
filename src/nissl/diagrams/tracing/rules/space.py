"""Convolution, pooling, padding, resizing."""

from __future__ import annotations

from nissl.diagrams.tracing.record import Place, Step
from nissl.diagrams.tracing.rules.rule import Nodes, Reading, Scene, argument, dims, rule

SPACE = {1: ("x",), 2: ("y", "x"), 3: ("z", "y", "x")}


def resized(scene: Scene, before: Nodes, out: int, key: object) -> Nodes:
    """Axes of space after a window has moved along them. Of equal windows on the same axis the results are the same axis; a
    window that keeps the size, with its steps of one, keeps the axis.
    """
    shape = scene.shape(out)[-len(before) :] if before else ()
    identity = scene.identity
    found = []
    for d, (node, size) in enumerate(zip(before, shape, strict=True)):
        if identity.probes[node] == identity.probe(size):
            found.append(node)
            continue
        known = ("window", identity.find(node), str(size))
        if known not in identity.slices:
            identity.slices[known] = (
                identity.new(size, SPACE.get(len(before), ("x",) * len(before))[d], 3) if size != 1 else identity.ONE
            )
        found.append(identity.slices[known])
    return tuple(found)


@rule("convolution", "_convolution", "convolution_overrideable", "mkldnn_convolution", "conv2d", "conv1d", "conv3d")
def convolution(scene: Scene, step: Step) -> Reading:
    """Space is unfolded into places and a window; a linear map acts on channels and the window, for every place."""
    x, weight = scene.of(step.arguments[0]), scene.of(step.arguments[1])
    bias, transposed, groups = step.arguments[2], step.arguments[6], step.arguments[8]
    batch, channel, space = x[:1], x[1], x[2:]
    identity = scene.identity
    out = step.outputs[0]
    shape = scene.shape(out)
    new, taken = (weight[1], weight[0]) if transposed else (weight[0], weight[1])
    for name, node in zip(SPACE.get(len(space), ()), weight[2:], strict=False):
        identity.hint(node, f"window_{name}", 3)
    if groups == 1:
        identity.union(channel, taken)
        made = new
    elif transposed:  # weight: (groups * channels in a group, channels out of a group, ...)
        identity.union(channel, taken)
        made = identity.new(shape[1])
    else:
        made = new
        if (
            identity.probes[new] == identity.probes[channel] == identity.probe(groups)
        ):  # a window of its own for every channel
            identity.union(channel, new)
            made = channel
    identity.hint(made, "channel", 2)
    if isinstance(bias, Place):
        identity.union(made, scene.of(bias)[0])
    after = resized(scene, space, out, None)
    depthwise = made == channel
    touched = [a for a, moves in zip(space, _moves(scene, step, len(space)), strict=True) if moves or a not in after]
    cost = 2 * scene.elements(step.arguments[0] if transposed else out) * scene.product(weight[1:])
    return Reading(
        "convolution",
        ("depthwise " if depthwise else "grouped " if groups != 1 else "")
        + ("transposed convolution" if transposed else "convolution"),
        [(*batch, made, *after)],
        acted=tuple(touched if after == space else dict.fromkeys((*touched, *(a for a in after if a not in space)))),
        contracted=() if depthwise else (channel,),
        born=() if depthwise else (made,),
        flops=cost,
    )


def _moves(scene: Scene, step: Step, n: int) -> list[bool]:
    """Along which axes a convolution sees more than the place itself; one of a single tap merely runs along them."""
    window = scene.shape(step.arguments[1])[2:]
    strides, padding = (tuple(step.arguments[k]) * (n if len(step.arguments[k]) == 1 else 1) for k in (3, 4))
    return [(w, s, p) != (1, 1, 0) for w, s, p in zip(window, strides, padding, strict=True)]


@rule("max_pool2d_with_indices", "max_pool3d_with_indices", "max_pool1d_with_indices", "max_pool1d", "max_pool2d", "avg_pool1d", "avg_pool2d", "avg_pool3d", "_adaptive_avg_pool2d",
      "_adaptive_avg_pool3d", "adaptive_avg_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d", "mkldnn_adaptive_avg_pool2d")  # fmt: skip
def pool(scene: Scene, step: Step) -> Reading:
    """A window moves along space; the largest in it, or the mean, is kept."""
    axes = scene.of(step.arguments[0])
    n = 3 if "3d" in step.operator else 1 if "1d" in step.operator else 2
    outs = [(*axes[:-n], *resized(scene, axes[-n:], o, step.operator)) for o in step.outputs]
    name = "max pool" if "max" in step.operator else "mean pool"
    window = step.arguments[1] if isinstance(step.arguments[1], tuple) and "adaptive" not in step.operator else ()
    cost = scene.elements(step.arguments[0])
    if window:
        full = tuple(window) * (n if len(window) == 1 else 1)
        cost = scene.elements(step.outputs[0])
        for w in full:
            cost = cost * w
    return spatial(scene, name, axes[-n:], outs, n, cost)


def spatial(scene: Scene, name: str, before: Nodes, outs: list[Nodes], n: int, cost: object) -> Reading:
    """An operator along space: axes that keep their size are acted on, others end and begin."""
    after = outs[0][len(outs[0]) - n :]
    return Reading(
        "reduction" if "pool" in name else "index" if name == "resize" else "join",
        name,
        outs,
        acted=tuple(a for a, b in zip(before, after, strict=True) if a == b),
        contracted=tuple(a for a, b in zip(before, after, strict=True) if a != b),
        born=tuple(b for a, b in zip(before, after, strict=True) if a != b and b != 0),
        elementwise=cost,
    )


@rule("upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d", "_upsample_nearest_exact1d", "_upsample_nearest_exact2d", "upsample_bilinear2d", "upsample_bicubic2d",
      "upsample_linear1d", "upsample_trilinear3d", "_upsample_bilinear2d_aa", "_upsample_bicubic2d_aa")  # fmt: skip
def upsample(scene: Scene, step: Step) -> Reading:
    """Space is read at other places."""
    axes = scene.of(step.arguments[0])
    n = len(axes) - 2
    out = (*axes[:2], *resized(scene, axes[2:], step.outputs[0], step.operator))
    nearest = "nearest" in step.operator
    return spatial(scene, "resize", axes[2:], [out], n, 0 if nearest else 4 * scene.elements(step.outputs[0]))


@rule(
    "constant_pad_nd",
    "reflection_pad1d",
    "reflection_pad2d",
    "reflection_pad3d",
    "replication_pad1d",
    "replication_pad2d",
    "replication_pad3d",
    "pad",
    "circular_pad",
)
def pad(scene: Scene, step: Step) -> Reading:
    """Axes get longer at their ends; an axis that is cut back to its size is the same again."""
    axes, shape = scene.of(step.arguments[0]), scene.shape(step.outputs[0])
    amounts = argument(step, 1, "pad")
    n = len(amounts) // 2
    before = axes[len(axes) - n :]
    after = tuple(
        a if scene.identity.probes[a] == scene.identity.probe(s) else _padded(scene, a, s)
        for a, s in zip(before, shape[-n:], strict=True)
    )
    return spatial(scene, "pad", before, [(*axes[: len(axes) - n], *after)], n, 0)


def _padded(scene: Scene, node: int, size: object) -> int:
    key = ("pad", scene.identity.find(node), str(size))
    if key not in scene.identity.slices:
        scene.identity.slices[key] = scene.identity.new(size)
    return scene.identity.slices[key]


@rule("im2col", "col2im")
def unfold(scene: Scene, step: Step) -> Reading:
    """Windows of space laid side by side; its types are shown."""
    axes, shape = scene.of(step.arguments[0]), scene.shape(step.outputs[0])
    keep = len(axes) - (3 if step.operator == "im2col" else 2)
    new = tuple(scene.born(s) for s in shape[keep:])
    forth = step.operator == "im2col"
    return Reading(
        "index" if forth else "join",
        "unfold" if forth else "fold",
        [(*axes[:keep], *new)],
        contracted=axes[keep:],
        born=new,
    )


@rule("_fft_r2c", "_fft_c2r", "_fft_c2c")
def fourier(scene: Scene, step: Step) -> Reading:
    """From points to frequencies, or back, along some axes; the same axis has the same frequencies."""
    axes = list(scene.of(step.arguments[0]))
    chosen = dims(step.arguments[1], len(axes))
    shape = scene.shape(step.outputs[0])
    before = tuple(axes[d] for d in chosen)
    inverse = step.operator == "_fft_c2r" or (step.operator == "_fft_c2c" and step.arguments[-1] is False)
    known = scene.identity.slices
    for d in chosen:
        root = scene.identity.find(axes[d])
        back = known.get(("points", root))
        if inverse and back is not None and scene.identity.probes[back] == scene.identity.probe(shape[d]):
            axes[d] = back
            continue
        key = ("points" if inverse else "frequencies", root, str(shape[d]))
        if key not in known:
            known[key] = scene.identity.new(shape[d], "" if inverse else "frequency", 2)
            if not inverse:
                known[("points", scene.identity.find(known[key]))] = axes[d]
        axes[d] = known[key]
    return Reading(
        "opaque",
        "inverse Fourier" if inverse else "Fourier",
        [tuple(axes)],
        contracted=before,
        born=tuple(axes[d] for d in chosen),
    )
