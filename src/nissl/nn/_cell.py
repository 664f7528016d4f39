"""Whatever runs in time: one step, a whole sequence, and the state between them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from nissl.errors import InputError, unknown
from nissl.models import Probe, stepping

# Batch first and flat, so that `safetensors.torch.save_file(state, path)` keeps it for later.
State = dict[str, Tensor]
Output = TypeVar("Output")


class Cell(nn.Module):
    """A layer of neurons that runs in time.

    A subclass says how it begins (`initial_state`), what one step does (`advance`) and, where there is a faster way than
    one step after another, what a whole sequence does (`sequence`), with the same numbers. Hidden variables pass a `Probe`:
    `probe.now(value)` in `advance`, `probe(values)` in `sequence`.

    Attributes
    ----------
    n_inputs
        Width of the input, or None where any width is right.

    Notes
    -----
    Under an intervention on one of its probes a cell takes its steps one by one, so that what is changed has its
    consequences; otherwise it uses `sequence`.

    Examples
    --------
    >>> class Leak(Cell):
    ...     def initial_state(self, x):
    ...         return {"trace": torch.zeros_like(x)}
    ...
    ...     def advance(self, x, state):
    ...         trace = 0.5 * state["trace"] + x
    ...         return trace, {"trace": trace}
    >>> y, state = Leak().run(torch.ones(1, 3, 2))
    >>> y[0, :, 0].tolist(), state["trace"].tolist()
    ([1.0, 1.5, 1.75], [[1.75, 1.75]])
    """

    n_inputs: int | None = None

    def initial_state(self, x: Float[Tensor, "batch input"]) -> State:
        """The state before the first step, for inputs such as `x`: as many samples, on the same device."""
        raise NotImplementedError(f"{type(self).__name__} does not say how it begins")

    def advance(self, x: Float[Tensor, "batch input"], state: State, **beside: Tensor) -> tuple[Tensor, State]:
        """One step."""
        raise NotImplementedError(f"{type(self).__name__} does not say what a step does")

    def sequence(self, x: Float[Tensor, "batch time input"], state: State, **beside: Tensor) -> tuple[Tensor, State]:
        """All steps of a sequence."""
        return self._step_by_step(x, state, x.shape[1], beside)

    def forward(self, x: Float[Tensor, "batch time input"]) -> Float[Tensor, "batch time output"]:
        """The output at every step, from the initial state."""
        return self.run(x)[0]

    def run(
        self,
        x: Float[Tensor, "batch time input"],
        state: State | None = None,
        *,
        truncate: int | None = None,
        **beside: Float[Tensor, "batch time ..."],
    ) -> tuple[Float[Tensor, "batch time output"], State]:
        """A sequence from a state to a state.

        Parameters
        ----------
        x
            Input.
        state
            Where it begins: what an earlier call returned, or was saved. The initial state where None.
        truncate
            Let no gradient flow back further than to the beginning of a piece of this many steps (truncated
            back-propagation through time).
        **beside
            Further sequences that `advance` and `sequence` of the subclass take by name.

        Returns
        -------
        y, state
            The output at every step, and the state after the last.

        Raises
        ------
        InputError
            Not (batch, time, input), no step, a wrong width, NaN or infinity, or a state of another network or batch.

        Examples
        --------
        >>> import nissl.nn
        >>> lif = nissl.nn.LIF()
        >>> current = torch.rand(2, 10, 3)
        >>> first, state = lif.run(current[:, :4])
        >>> rest, _ = lif.run(current[:, 4:], state)
        >>> torch.equal(torch.cat([first, rest], 1), lif(current))
        True
        """
        self._check_input(x, 3)
        if truncate is not None and truncate < 1:
            raise InputError(f"truncate={truncate}; allowed: 1 or more steps, or None")
        state = self._begin(x[:, 0], state)
        size = truncate or x.shape[1]
        if self._edited():  # interventions count the steps of the whole sequence
            return self._step_by_step(x, state, size, beside)
        outputs = []
        for start in range(0, x.shape[1], size):
            piece = {name: value[:, start : start + size] for name, value in beside.items()}
            y, state = self.sequence(x[:, start : start + size], detached(state) if start else state, **piece)
            outputs.append(y)
        return torch.cat(outputs, 1) if len(outputs) > 1 else outputs[0], _own(state)

    def step(
        self, x: Float[Tensor, "batch input"], state: State | None = None
    ) -> tuple[Float[Tensor, "batch output"], State]:
        """One step from a state to a state, in memory that does not grow.

        Raises
        ------
        InputError
            As for `run`.
        """
        self._check_input(x, 2)
        return self.advance(x, self._begin(x, state))

    def _step_by_step(self, x: Tensor, state: State, size: int, beside: dict[str, Tensor]) -> tuple[Tensor, State]:
        def advance(step: int, before: State) -> tuple[Tensor, State]:
            now = {name: value[:, step] for name, value in beside.items()}
            return self.advance(x[:, step], detached(before) if step and step % size == 0 else before, **now)

        outputs, state = unroll(self, advance, range(x.shape[1]), state)
        return torch.stack(outputs, 1), state

    def _edited(self) -> bool:
        return any(isinstance(m, Probe) and m.edited for m in self.modules())

    def _begin(self, x: Tensor, state: State | None) -> State:
        fresh = self.initial_state(x)
        return fresh if state is None else checked_state(state, fresh, type(self).__name__)

    def _check_input(self, x: Tensor, ndim: int) -> None:
        name, axes = type(self).__name__, "(batch, time, input)" if ndim == 3 else "(batch, input)"
        if not isinstance(x, Tensor) or x.dim() != ndim:
            given = tuple(x.shape) if isinstance(x, Tensor) else type(x).__name__
            raise InputError(f"{name} takes a tensor {axes}, and was given {given}")
        if 0 in x.shape:
            raise InputError(
                f"{name} was given shape {tuple(x.shape)}; it needs at least one sample, one step and one input"
            )
        if self.n_inputs is not None and x.shape[-1] != self.n_inputs:
            raise InputError(f"{name} has {self.n_inputs} inputs, and was given {x.shape[-1]}")
        if not_finite(x):
            raise InputError(f"{name} was given NaN or infinity; fill or drop what is missing first")


def unroll(
    module: nn.Module,
    advance: Callable[[Any, Any], tuple[Output, Any]],
    inputs: Sequence[Any],
    state: Any,
) -> tuple[list[Output], Any]:
    """The one loop over time: step after step, with the probes of `module` told which step it is.

    Parameters
    ----------
    module
        Whose probes take part: readers get what passed each of them, whole, when the loop ends.
    advance
        From one step's input and a state to an output and a state.
    inputs
        One entry a step.
    state
        Where it begins.

    Returns
    -------
    outputs, state
        One output a step, and the state after the last.

    Examples
    --------
    >>> unroll(nn.Identity(), lambda x, total: (total + x, total + x), [1, 2, 3], 0)
    ([1, 3, 6], 6)
    """
    outputs = []
    with stepping(module, len(inputs)) as at:
        for t, x in enumerate(inputs):
            at(t)
            y, state = advance(x, state)
            outputs.append(y)
    return outputs, state


def _own(state: State) -> State:
    """A state that is no view into a whole sequence: it can be saved, and the sequence need not be kept."""
    return {name: value.clone() if value._is_view() else value for name, value in state.items()}


def detached(state: State) -> State:
    """The same state with no past for gradients to flow into."""
    return {name: value.detach() for name, value in state.items()}


def checked_state(state: Mapping[str, Tensor], like: State, owner: str) -> State:
    """A state that somebody gave, or a clear error where it is not one of this network for this batch."""
    for name in state:
        if name not in like:
            raise unknown(f"state of {owner}", name, like)
    for name, fresh in like.items():
        given = state.get(name)
        if given is None:
            raise InputError(f"the state of {owner} lacks {name!r}; it needs {', '.join(like)}")
        if given.shape != fresh.shape:
            raise InputError(
                f"state {name!r} of {owner} has shape {tuple(given.shape)}, and {tuple(fresh.shape)} is needed; it belongs to "
                "another batch or configuration"
            )
        if not_finite(given):
            raise InputError(
                f"state {name!r} of {owner} holds NaN or infinity; begin again from the initial state, or from a sound one"
            )
    return {name: state[name].to(fresh) for name, fresh in like.items()}


def not_finite(x: Tensor) -> bool:
    """Whether a tensor holds NaN or infinity; not asked inside a compiled graph, which it would break."""
    if not x.is_floating_point() or torch.compiler.is_compiling():
        return False
    # A sum is not finite if any part is not, and costs a tenth of asking each part; it may overflow, so then each is asked.
    return not bool(torch.isfinite(x.detach().sum())) and not bool(torch.isfinite(x).all())
