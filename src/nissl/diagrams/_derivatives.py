"""Derivatives of single operators, as torch's own rules have them: what they read of the forward pass, and what they run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from nissl.diagrams._operators import SHAPE, VJP
from nissl.diagrams.circuit import Operation, Ref
from nissl.errors import DiagramError

if TYPE_CHECKING:
    from nissl.diagrams._reverse import Reverse

Back = Sequence[str | None]
Rule = Callable[["Reverse", Operation, Back], bool]  # False where it does not know this case

# Their derivative does not depend on the numbers that they act on.
_LINEAR = frozenset(
    [
        "add",
        "sub",
        "rsub",
        "neg",
        "sum",
        "mean",
        "cat",
        "stack",
        "view",
        "reshape",
        "_unsafe_view",
        "_reshape_alias",
        "expand",
        "permute",
        "transpose",
        "t",
        "unsqueeze",
        "squeeze",
        "slice",
        "select",
        "split",
        "split_with_sizes",
        "chunk",
        "unbind",
        "clone",
        "_to_copy",
        "alias",
        "lift_fresh",
        "flip",
        "roll",
        "cumsum",
        "constant_pad_nd",
        "unfold",
        "upsample_nearest1d",
        "upsample_nearest2d",
        "upsample_bilinear2d",
        "im2col",
        "col2im",
        "as_strided",
        "index_select",
        "index",
        "gather",
        "embedding",
        "masked_fill",
        "where",
        "diagonal",
        "avg_pool1d",
        "avg_pool2d",
        "_adaptive_avg_pool2d",
        "adaptive_avg_pool2d",
        "repeat",
        "tril",
        "triu",
        "copy",
        "slice_scatter",
        "select_scatter",
        "narrow",
        "pixel_shuffle",
        "pixel_unshuffle",
        "reflection_pad1d",
        "reflection_pad2d",
        "diag_embed",
    ]
)


def needless(operator: str, positions: Sequence[str], wrt: Sequence[int]) -> set[int]:
    """Which of an operator's arrays its derivative does not read; of those with real numbers."""
    if operator in _LINEAR:
        return set(range(len(positions)))
    if operator == "mul":  # each factor is read for the other's sake
        return {i for i in range(len(positions)) if not set(wrt) - {i}}
    if operator == "div":
        return {0} if 1 not in wrt else set()
    return set()


def _from_output(target: str, *rest: Any) -> Rule:
    """A derivative that reads what came out."""

    def rule(net: Reverse, operation: Operation, back: Back) -> bool:
        net.emit(operation, target, (Ref(str(back[0])), Ref(operation.outputs[0]), *rest), [operation.inputs[0]])
        return True

    return rule


def _from_input(target: str) -> Rule:
    """A derivative that reads what went in, with the operator's further arguments."""

    def rule(net: Reverse, operation: Operation, back: Back) -> bool:
        arguments = (Ref(str(back[0])), Ref(operation.inputs[0]), *operation.arguments[1:])
        net.emit(operation, target, arguments, [operation.inputs[0]], options=dict(operation.options))
        return True

    return rule


def _softmax(target: str) -> Rule:
    def rule(net: Reverse, operation: Operation, back: Back) -> bool:
        if net.of(operation.inputs[0]).dtype != net.of(operation.outputs[0]).dtype:
            return False
        dtype = f"torch.{net.of(operation.inputs[0]).dtype}"
        arguments = (Ref(str(back[0])), Ref(operation.outputs[0]), operation.arguments[1], dtype)
        net.emit(operation, target, arguments, [operation.inputs[0]])
        return True

    return rule


def _add(net: Reverse, operation: Operation, back: Back) -> bool:
    """What comes back goes to both, summed over axes along which one was shared."""
    if operation.options.get("alpha", 1) != 1 or len(operation.arguments) > 2:
        return False
    grad = str(back[0])
    axes = net.of(grad).axes
    chosen = [a.array for a in operation.arguments if isinstance(a, Ref) and a.array in net.needed]
    own = {n: net.of(n).axes for n in chosen}
    if any(axes[len(axes) - len(o) :] != o or net.of(n).dtype != net.of(grad).dtype for n, o in own.items()):
        return False
    for name in chosen:
        net.summed(operation, grad, name, range(len(axes) - len(own[name]), len(axes)))
    return True


def _mul(net: Reverse, operation: Operation, back: Back) -> bool:
    """Each factor gets what comes back times the other."""
    left, right = operation.arguments[:2]
    grad = Ref(str(back[0]))
    factors = [f for f in (left, right) if isinstance(f, Ref)]
    like = net.of(grad.array)
    if any(net.of(f.array).axes != like.axes or net.of(f.array).dtype != like.dtype for f in factors):
        return False
    for own, other in ((left, right), (right, left)):
        if isinstance(own, Ref) and own.array in net.needed:
            scalar = operation.target if isinstance(other, Ref) else "aten.mul.Tensor"
            net.emit(operation, scalar, (grad, other), [own.array])
    return True


def _cast(net: Reverse, operation: Operation, back: Back) -> bool:
    """A cast is cast back."""
    name = operation.inputs[0]
    net.contribute(name, net.cast(operation, str(back[0]), net.of(name).dtype))
    return True


def _copied(net: Reverse, operation: Operation, back: Back) -> bool:
    """What is written over something gets what comes back; what it is written over gets nothing."""
    source = operation.arguments[1]
    if not isinstance(source, Ref) or source.array not in net.needed:
        return True
    own = net.of(source.array)
    grad = net.cast(operation, str(back[0]), own.dtype)
    axes = net.of(grad).axes
    if axes == own.axes:
        net.contribute(source.array, grad)
        return True
    there = (SHAPE, f"torch.{own.dtype}", *(net.diagram.size(a) for a in own.axes))
    sizes = tuple(net.diagram.size(a) for a in axes)
    net.emit(operation, VJP, ("aten.expand.default", (there, sizes), (0,), (Ref(grad),)), [source.array])
    return True


def _exp(net: Reverse, operation: Operation, back: Back) -> bool:
    net.emit(operation, "aten.mul.Tensor", (Ref(str(back[0])), Ref(operation.outputs[0])), [operation.inputs[0]])
    return True


def _reshaped(net: Reverse, operation: Operation, back: Back) -> bool:
    """Views are viewed back."""
    name = operation.inputs[0]
    sizes = tuple(net.diagram.size(a) for a in net.of(name).axes)
    net.emit(
        operation, "aten.reshape.default", (Ref(str(back[0])), sizes), [name], kind="rearrangement",
        contracted=operation.born, born=operation.contracted,
    )  # fmt: skip
    return True


def _convolution(net: Reverse, operation: Operation, back: Back) -> bool:
    """Both parts at once, as torch runs them; each costs what the forward pass did."""
    if len(operation.arguments) != 9 or operation.options:
        return False
    x, weight, bias, *rest = operation.arguments
    wanted = [isinstance(a, Ref) and a.array in net.needed for a in (x, weight, bias)]
    sizes = tuple(net.diagram.size(a) for a in net.of(bias.array).axes) if isinstance(bias, Ref) else None
    arguments = (Ref(str(back[0])), x, weight, sizes, *rest, tuple(wanted))
    to = [a.array if w else None for a, w in zip((x, weight, bias), wanted, strict=True)]
    net.emit(
        operation, "aten.convolution_backward.default", arguments, to, flops=operation.flops * (wanted[0] + wanted[1])
    )
    return True


def _norm(target: str, arrays: Sequence[int], between: Callable[[tuple[Any, ...]], tuple[Any, ...]]) -> Rule:
    """Norms: `arrays` says where input, weight and bias stand; `between` picks arguments of the operator's derivative."""

    def rule(net: Reverse, operation: Operation, back: Back) -> bool:
        if len(operation.outputs) < 3 or any(back[1:]):
            return False
        given = (*operation.arguments, *([None] * 8))
        chosen = [given[i] for i in arrays]
        wanted = tuple(isinstance(a, Ref) and a.array in net.needed for a in chosen)
        statistics = tuple(Ref(n) for n in operation.outputs[1:3])
        arguments = (Ref(str(back[0])), given[0], *between((*statistics, *given)), wanted)
        to = [a.array if isinstance(a, Ref) and w else None for a, w in zip(chosen, wanted, strict=True)]
        net.emit(operation, target, arguments, to)
        return True

    return rule


def _max_pool(net: Reverse, operation: Operation, back: Back) -> bool:
    if len(operation.outputs) < 2:
        return False
    x, kernel, stride, padding, dilation, ceil = (
        *operation.arguments,
        *((), 0, 1, False)[len(operation.arguments) - 2 :],
    )
    arguments = (Ref(str(back[0])), x, kernel, stride, padding, dilation, ceil, Ref(operation.outputs[1]))
    net.emit(operation, "aten.max_pool2d_with_indices_backward.default", arguments, [operation.inputs[0]])
    return True


def _dropout(net: Reverse, operation: Operation, back: Back) -> bool:
    if len(operation.outputs) < 2:
        raise DiagramError(
            f"{operation.name!r} draws at random, and the diagram does not hold what it drew; draw it with every operator: "
            "circuit(..., simplified=False)"
        )
    share = float(operation.arguments[1])
    arguments = (Ref(str(back[0])), Ref(operation.outputs[1]), 1 / (1 - share) if share < 1 else 0.0)
    net.emit(operation, "aten.native_dropout_backward.default", arguments, [operation.inputs[0]])
    return True


RULES: dict[str, Rule] = {
    "relu": _from_output("aten.threshold_backward.default", 0),
    "sigmoid": _from_output("aten.sigmoid_backward.default"),
    "tanh": _from_output("aten.tanh_backward.default"),
    "exp": _exp,
    "gelu": _from_input("aten.gelu_backward.default"),
    "silu": _from_input("aten.silu_backward.default"),
    "_softmax": _softmax("aten._softmax_backward_data.default"),
    "softmax": _softmax("aten._softmax_backward_data.default"),
    "_safe_softmax": _softmax("aten._softmax_backward_data.default"),
    "_log_softmax": _softmax("aten._log_softmax_backward_data.default"),
    "log_softmax": _softmax("aten._log_softmax_backward_data.default"),
    "add": _add,
    "_to_copy": _cast,
    "copy": _copied,
    "mul": _mul,
    "view": _reshaped,
    "reshape": _reshaped,
    "_unsafe_view": _reshaped,
    "unsqueeze": _reshaped,
    "squeeze": _reshaped,
    "flatten": _reshaped,
    "unflatten": _reshaped,
    "convolution": _convolution,
    # statistics come first in what `between` is given: mean, 1 / deviation, then the operator's own arguments
    "native_layer_norm": _norm(
        "aten.native_layer_norm_backward.default", (0, 2, 3), lambda a: (a[3], a[0], a[1], a[4], a[5])
    ),
    "native_group_norm": _norm(
        "aten.native_group_norm_backward.default", (0, 1, 2), lambda a: (a[0], a[1], a[3], *a[5:9])
    ),
    "native_batch_norm": _norm(
        "aten.native_batch_norm_backward.default", (0, 1, 2), lambda a: (a[3], a[5], a[6], a[0], a[1], a[7], a[9])
    ),
    "max_pool2d_with_indices": _max_pool,
    "native_dropout": _dropout,
}
