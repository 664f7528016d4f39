"""The leaky trace, the cell, and the probes that make hidden variables sites."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.signal
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import nissl
from nissl.errors import InputError, UnknownNameError
from nissl.models import Probe
from nissl.nn import Cell, leaky_trace, unroll
from nissl.nn._kernels import kernel


class Leaks(Cell):
    """Two units with their own decay and a readout: a cell with a fast form."""

    n_inputs = 2

    def __init__(self) -> None:
        super().__init__()
        self.decay = torch.tensor([0.5, 0.9])
        self.trace = Probe("sample", "time", "unit", coords={"tau": ("unit", lambda: -1 / self.decay.log())})
        self.echo = Probe("sample", "time", "unit")
        self.out = nn.Linear(2, 1)

    def initial_state(self, x: Tensor) -> dict[str, Tensor]:
        return {"trace": torch.zeros_like(x)}

    def advance(self, x: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        trace = self.trace.now(self.decay * state["trace"] + x)
        return self.out(self.echo.now(2 * trace)), {"trace": trace}

    def sequence(self, x: Tensor, state: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        trace = self.trace(leaky_trace(x, self.decay, state["trace"]))
        return self.out(self.echo(2 * trace)), {"trace": trace[:, -1]}


@pytest.fixture(params=["machine code", "torch"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Everything here holds with a compiler and without one."""
    if request.param == "torch":
        monkeypatch.setattr(kernel, "library", lambda: None)
    elif kernel.library() is None:
        pytest.skip("there is no compiler")
    return request.param


@pytest.fixture
def leaks() -> Leaks:
    torch.manual_seed(0)
    return Leaks()


# ------------------------------------------------------------------------------------------------------------ the trace


@pytest.mark.parametrize("steps", [1, 2, 3, 16, 63, 64, 1000])
def test_a_trace_is_a_first_order_filter(steps: int) -> None:
    rng = np.random.default_rng(steps)
    x, decay, start = rng.standard_normal((3, steps, 4)), rng.uniform(-0.5, 0.99, 4), rng.standard_normal((3, 4))
    truth = np.stack(
        [
            scipy.signal.lfilter([1], [1, -decay[u]], x[..., u], axis=1, zi=(decay[u] * start[:, u])[:, None])[0]
            for u in range(4)
        ],
        -1,
    )
    tensors = [torch.from_numpy(v) for v in (x, decay, start)]
    for chunk in (None, 1, 7, steps):
        assert np.abs(leaky_trace(*tensors, chunk=chunk).numpy() - truth).max() < 1e-12


def test_the_gradient_of_a_trace_is_right_to_second_order() -> None:
    generator = torch.Generator().manual_seed(0)
    x, decay, start = (
        torch.rand(shape, dtype=torch.float64, generator=generator, requires_grad=True)
        for shape in ((2, 7, 3), (3,), (2, 3))
    )
    assert torch.autograd.gradcheck(leaky_trace, (x, decay, start))
    assert torch.autograd.gradgradcheck(leaky_trace, (x, decay, start))
    assert torch.autograd.gradcheck(lambda v, d: leaky_trace(v, d), (x, decay[0]))


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.integers(1, 40), cut=st.integers(0, 40), decay=st.floats(0, 1), seed=st.integers(0, 99))
def test_a_trace_in_two_pieces_is_the_trace(steps: int, cut: int, decay: float, seed: int) -> None:
    x = torch.randn(steps, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    whole, cut = leaky_trace(x, decay), 1 + cut % steps
    first = leaky_trace(x[:cut], decay)
    assert torch.allclose(first, whole[:cut], atol=1e-10)
    if cut < steps:
        assert torch.allclose(leaky_trace(x[cut:], decay, first[-1]), whole[cut:], atol=1e-10)


@pytest.mark.parametrize(
    ("x", "decay", "said"),
    [
        (torch.zeros(0, 2), 0.5, "at least one step"),
        (torch.zeros(3), 0.5, "time, unit"),
        (torch.zeros(3, 2), torch.zeros(3), "broadcast"),
    ],
)
def test_bad_traces_are_refused(x: Tensor, decay: float | Tensor, said: str) -> None:
    with pytest.raises(InputError, match=said):
        leaky_trace(x, decay)


# ------------------------------------------------------------------------------------------------------------- the cell


def test_steps_sequence_and_pieces_agree(leaks: Leaks) -> None:
    x = torch.randn(3, 10, 2)
    whole, end = leaks.run(x)
    state, steps = None, []
    for t in range(10):
        y, state = leaks.step(x[:, t], state)
        steps.append(y)
    assert torch.allclose(torch.stack(steps, 1), whole, atol=1e-6)
    assert state is not None
    assert torch.allclose(state["trace"], end["trace"], atol=1e-6)
    first, between = leaks.run(x[:, :4])
    assert torch.allclose(torch.cat([first, leaks.run(x[:, 4:], between)[0]], 1), whole, atol=1e-6)


def test_a_state_can_be_saved_in_mid_sequence(leaks: Leaks, tmp_path) -> None:
    from safetensors.torch import load_file, save_file

    x = torch.randn(3, 10, 2)
    _, state = leaks.run(x[:, :6])
    save_file(state, tmp_path / "state.safetensors")
    again, _ = leaks.run(x[:, 6:], load_file(tmp_path / "state.safetensors"))
    assert torch.allclose(again, leaks(x)[:, 6:], atol=1e-6)


@pytest.mark.parametrize("edited", [False, True])
def test_truncation_stops_the_gradient_where_a_piece_begins(leaks: Leaks, edited: bool) -> None:
    x = torch.randn(1, 10, 2, requires_grad=True)
    model = nissl.load(leaks)
    with nissl.intervene(model, {"trace": lambda v: v} if edited else {}):
        y, _ = leaks.run(x, truncate=4)
    (grad,) = torch.autograd.grad(y[:, -1].sum(), x)
    assert (grad[:, :8] == 0).all()
    assert (grad[:, 8:] != 0).all()
    assert torch.allclose(y, leaks(x), atol=1e-6)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda c, x: c(x[:, :0]), "at least one"),
        (lambda c, x: c(x[..., :1]), "2 inputs, and was given 1"),
        (lambda c, x: c(x[0]), r"\(batch, time, input\)"),
        (lambda c, x: c(x / 0 * 0), "NaN"),
        (lambda c, x: c.run(x, truncate=0), "truncate"),
        (lambda c, x: c.run(x, {}), "lacks 'trace'"),
        (lambda c, x: c.run(x, {"trace": x[:2, 0]}), "another batch"),
        (lambda c, x: c.run(x, {"trace": x[:, 0] * torch.nan}), "holds NaN"),
        (lambda c, x: c.step(x), r"\(batch, input\)"),
    ],
)
def test_bad_input_is_named(leaks: Leaks, make, said: str) -> None:
    with pytest.raises(InputError, match=said):
        make(leaks, torch.randn(3, 5, 2))


def test_an_unknown_part_of_a_state_names_the_nearest(leaks: Leaks) -> None:
    with pytest.raises(UnknownNameError, match="nearest: 'trace'"):
        leaks.run(torch.randn(3, 5, 2), {"trce": torch.zeros(3, 2)})


# ------------------------------------------------------------------------------------------------------------- the sites


def test_what_is_recorded_is_the_hidden_variable_with_its_time_constants(leaks: Leaks, tmp_path) -> None:
    x = torch.randn(4, 6, 2)
    acts = nissl.record(leaks, x, at="trace")
    assert acts["trace"].dims == ("sample", "time", "unit")
    assert np.allclose(acts["trace"], leaky_trace(x, leaks.decay))
    assert np.allclose(acts["trace"].tau, [1 / np.log(2), -1 / np.log(0.9)])
    stored = nissl.record(leaks, x, at="trace", to=str(tmp_path / "a.zarr"), units=[1], positions=slice(2, 4))
    assert np.allclose(stored["trace"][..., 0], acts["trace"][:, 2:4, 1])
    assert np.allclose(stored["trace"].tau, acts["trace"].tau[1])


def test_time_constants_stay_with_their_own_site(leaks: Leaks) -> None:
    acts = nissl.record(leaks, torch.randn(4, 6, 2), at=["echo", "trace"])
    assert "tau" not in acts["echo"].coords
    assert acts["trace"].dims == ("sample", "time", "unit_trace")
    assert acts["trace"].tau.dims == ("unit_trace",)
    with nissl.intervene(nissl.load(leaks), {"trace": nissl.Patch(acts["trace"])}):
        leaks(torch.randn(4, 6, 2))


def test_an_intervention_has_consequences_later_and_not_before(leaks: Leaks) -> None:
    x = torch.randn(4, 6, 2)
    model = nissl.load(leaks)
    before = nissl.record(model, x, at="trace")["trace"]
    with nissl.intervene(model, {"trace": nissl.Clamp(0.0, units=[1], positions=slice(2, 3))}):
        after = nissl.record(model, x, at="trace")["trace"]
    difference = before - after
    assert np.allclose(difference[:, :2], 0, atol=1e-6)
    assert np.allclose(difference[..., 0], 0, atol=1e-6)
    for later in range(2, 6):  # what was taken away would have decayed
        assert np.allclose(difference[:, later, 1], 0.9 ** (later - 2) * before[:, 2, 1], atol=1e-5)


@pytest.mark.parametrize("positions", [-1, [0, -1], np.array([True] * 5 + [False])])
def test_positions_count_the_steps_of_the_whole_sequence(leaks: Leaks, positions) -> None:
    x = torch.randn(4, 6, 2)
    model = nissl.load(leaks)
    with nissl.intervene(model, {"echo": nissl.Clamp(7.0, positions=positions)}):
        echo = nissl.record(model, x, at="echo")["echo"].values
    chosen = np.zeros(6, dtype=bool)
    chosen[positions] = True
    assert (echo[:, chosen] == 7).all()
    assert (echo[:, ~chosen] != 7).all()


def test_a_patch_puts_in_the_moment_that_it_was_recorded_at(leaks: Leaks) -> None:
    x, other = torch.randn(4, 6, 2), torch.randn(4, 6, 2)
    model = nissl.load(leaks)
    acts = nissl.record(model, x, at="trace")
    with nissl.intervene(model, {"trace": nissl.Patch(acts["trace"])}):
        assert torch.allclose(model(other), leaks(x), atol=1e-6)


def test_step_by_step_nobody_knows_the_position(leaks: Leaks) -> None:
    model = nissl.load(leaks)
    with nissl.intervene(model, {"trace": nissl.Clamp(1.0)}):
        assert leaks.step(torch.randn(3, 2))[1]["trace"].eq(1).all()
    with (
        nissl.intervene(model, {"trace": nissl.Clamp(1.0, positions=3)}),
        pytest.raises(InputError, match="whole sequence"),
    ):
        leaks.step(torch.randn(3, 2))


def test_a_probe_in_a_network_without_steps_is_a_site_too() -> None:
    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.hidden = Probe("sample", "unit")

        def forward(self, x: Tensor) -> Tensor:
            return self.hidden(2 * x)

    model = nissl.load(Plain())
    with nissl.intervene(model, {"hidden": nissl.Clamp(5.0, units=[0])}):
        assert model(torch.ones(1, 2)).tolist() == [[5.0, 2.0]]
    assert model(torch.ones(1, 2)).tolist() == [[2.0, 2.0]]


def test_unroll_gives_readers_the_whole_once(leaks: Leaks) -> None:
    shapes = []
    leaks.trace.register_forward_hook(lambda module, args, value: shapes.append(tuple(value.shape)))
    x = torch.randn(3, 5, 2)
    unroll(leaks, leaks.advance, x.unbind(1), leaks.initial_state(x[:, 0]))
    assert shapes == [(3, 5, 2)]


@pytest.mark.parametrize(
    ("dims", "coords"), [((), None), (("sample", "sample"), None), (("sample",), {"tau": ("unit", torch.ones(1))})]
)
def test_probes_that_make_no_sense_are_refused(dims, coords) -> None:
    with pytest.raises(InputError):
        Probe(*dims, coords=coords)


def test_what_is_recorded_goes_into_the_population_tools(leaks: Leaks) -> None:
    from nissl.populations import rhythms
    from nissl.recordings import as_traces

    acts = nissl.record(leaks, torch.randn(4, 200, 2), at=["echo", "trace"])
    traces = as_traces(acts["trace"], ("trial", "time", "unit"))
    assert traces.shape == (4, 200, 2)
    assert as_traces(acts["trace"][0].rename(time="tick")).attrs["time_unit"] == "tick"
    power = rhythms.power_spectrum(acts["trace"][0], rate=100.0)
    assert np.isfinite(power).all()
    assert rhythms.phase(acts["trace"][0], (5.0, 15.0), rate=100.0).sizes["time"] == 200


def test_whole_numbers_and_empty_chunks_are_refused() -> None:
    with pytest.raises(InputError, match=r"x\.float"):
        leaky_trace(torch.ones(4, 2, dtype=torch.long), 0.5)
    with pytest.raises(InputError, match="chunk=0"):
        leaky_trace(torch.ones(4, 2), 0.5, chunk=0)


def test_infinity_is_refused_where_it_comes_in(leaks: Leaks) -> None:
    with pytest.raises(InputError, match="infinity"):
        leaks(torch.full((1, 5, 2), torch.inf))
    assert torch.isfinite(leaks(torch.full((1, 5, 2), 3e38)[:, :1] * 0.1)).all()  # a sum may overflow where no part has
