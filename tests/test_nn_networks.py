"""What every network of the room can do: be saved, moved to another type, compiled, recorded, changed, and shown."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import nissl
from nissl import cli
from nissl.models import Probe
from nissl.models.outputs import main_tensor
from nissl.nn.catalogue import networks

G = torch.Generator().manual_seed(0)
CURRENT = torch.rand(3, 12, 4, generator=G)
IDS = torch.randint(0, 11, (3, 12), generator=G)
PATTERNS = (torch.rand(3, 40, generator=G) < 0.3).float()

# One small network of each kind, and an input to it.
EXAMPLES: dict[str, Callable[[], tuple[nn.Module, Any]]] = {
    "DifferentialConv": lambda: (nissl.nn.operators.DifferentialConv(4, 2), CURRENT.transpose(1, 2)),
    "FourierFeatures": lambda: (nissl.nn.operators.FourierFeatures(4, 3, random=1.0), CURRENT),
    "FourierNeuralOperator": lambda: (
        nissl.nn.operators.FourierNeuralOperator(4, 2, 6, 3, 2, n_dims=1, padding=0.25),
        CURRENT.transpose(1, 2),
    ),
    "InputOutputInterpolation": lambda: (
        nissl.nn.operators.InputOutputInterpolation(nn.Conv1d(4, 2, 3, padding=1, padding_mode="circular"), 8),
        CURRENT.transpose(1, 2),
    ),
    "IntegralTransform": lambda: (
        nissl.nn.operators.IntegralTransform(4, 2, 1, "ball", radius=0.4),
        {"u": CURRENT, "source": torch.linspace(0, 1, 12)[:, None]},
    ),
    "LocalIntegralConv": lambda: (nissl.nn.operators.LocalIntegralConv(4, 2, 0.2, 3), CURRENT.transpose(1, 2)),
    "NeuralOperator": lambda: (
        nissl.nn.operators.to_neural_operator(nn.Sequential(nn.Conv1d(4, 2, 3, padding=1), nn.MaxPool1d(2)), [6])[0],
        CURRENT.transpose(1, 2),
    ),
    "PatchIntegral": lambda: (nissl.nn.operators.PatchIntegral(4, 2, 3, n_dims=1), CURRENT.transpose(1, 2)),
    "Pointwise": lambda: (nissl.nn.operators.Pointwise(4, 2), CURRENT.transpose(1, 2)),
    "QuadratureAttention": lambda: (
        nissl.nn.operators.QuadratureAttention(4, 2),
        {"x": CURRENT, "weights": CURRENT[0, :, 0] + 0.1},
    ),
    "QuadratureNorm": lambda: (nissl.nn.operators.QuadratureNorm(4, 2), CURRENT.transpose(1, 2)),
    "SpectralConv": lambda: (nissl.nn.operators.SpectralConv(4, 2, 3), CURRENT.transpose(1, 2)),
    "MgNO": lambda: (
        nissl.nn.operators.MgNO(4, 2, 3, 2, smoothing_steps=(1, 1)),
        CURRENT.transpose(1, 2)[..., None].expand(-1, -1, -1, 12),
    ),
    "MultigridLayer": lambda: (
        nissl.nn.operators.MultigridLayer(4, 3, smoothing_steps=(1, 1)),
        CURRENT.transpose(1, 2)[..., None].expand(-1, -1, -1, 12),
    ),
    "MultigridOperator": lambda: (
        nissl.nn.operators.MultigridOperator(4, 3, (1, 1)),
        CURRENT.transpose(1, 2)[..., None].expand(-1, -1, -1, 12),
    ),
    "QuadraticConv2d": lambda: (
        nissl.nn.QuadraticConv2d(4, 2, 3, padding=1),
        CURRENT.transpose(1, 2)[..., None].expand(-1, -1, -1, 5),
    ),
    "QuadraticLinear": lambda: (nissl.nn.QuadraticLinear(4, 3), CURRENT),
    "AstroSNN": lambda: (nissl.nn.AstroSNN(11, 8, 2, 2), IDS),
    "AstrocyteMemory": lambda: (nissl.nn.AstrocyteMemory(4, 2), CURRENT - 0.5),
    "AstrocyteModulatedUnit": lambda: (nissl.nn.AstrocyteModulatedUnit(4, 2), CURRENT - 0.5),
    "ContinuousThoughtMachine": lambda: (
        nissl.nn.ContinuousThoughtMachine(
            n_features=4, n_classes=3, n_neurons=16, ticks=5, history=4, d_input=8, heads=2, pairs_out=6, pairs_action=5
        ),
        CURRENT,
    ),
    "DendriticNeuron": lambda: (nissl.nn.DendriticNeuron(40, 6, 8).fit(PATTERNS), PATTERNS),
    "HalfTurn": lambda: (nissl.nn.HalfTurn(4), CURRENT),
    "LIF": lambda: (nissl.nn.LIF(), CURRENT),
    "LeakyMemoryNeuron": lambda: (nissl.nn.LeakyMemoryNeuron(4, 2, 5, tau_memory=(1.0, 10.0)), CURRENT),
    "SequenceMemory": lambda: (
        nissl.nn.SequenceMemory(40, 3, 60, 6, 4).fit(PATTERNS[None]),
        PATTERNS[None].expand(3, -1, -1),
    ),
    "SpikingClassifier": lambda: (nissl.nn.SpikingClassifier(nissl.nn.SpikingNetwork([4, 6, 3])), CURRENT[:, 0]),
    "SpikingNetwork": lambda: (nissl.nn.SpikingNetwork([4, 6, 3]), CURRENT),
    "WormSteering": lambda: (nissl.nn.WormSteering(learned=True), CURRENT[:, 0, :2]),
    "WormSwimmer": lambda: (
        nissl.nn.WormSwimmer(4),
        {"joint_angles": CURRENT[:, 0], "step": CURRENT[:, :1, 0].mul(100).long()},
    ),
}


# What they compute is what they give: no hidden variables of their own.
PARTS = {
    "HalfTurn", "QuadraticConv2d", "QuadraticLinear", "WormSteering", *(n for n, e in networks().items() if e.room == "nissl.nn.operators"),
}  # fmt: skip


def example(name: str) -> tuple[nn.Module, Any]:
    torch.manual_seed(1)
    return EXAMPLES[name]()


def probes(module: nn.Module) -> dict[str, Probe]:
    return {path: m for path, m in module.named_modules() if isinstance(m, Probe)}


def test_every_network_has_an_example_here() -> None:
    assert set(EXAMPLES) == set(networks())


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_weights_survive_files(name: str, tmp_path: Path) -> None:
    from safetensors.torch import load_model, save_model

    module, x = example(name)
    other = EXAMPLES[name]()[0]
    with torch.no_grad():
        for p in [*other.parameters()]:
            p.add_(0.1)
    save_model(module, str(tmp_path / "m.safetensors"))
    load_model(other, tmp_path / "m.safetensors")
    assert torch.equal(_out(module, x), _out(other, x))
    third = EXAMPLES[name]()[0]
    third.load_state_dict(module.state_dict())
    assert torch.equal(_out(module, x), _out(third, x))


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_double_precision_is_kept(name: str) -> None:
    module, x = example(name)
    single = _out(module, x)
    double = _out(module.double(), _double(x))
    if double.is_floating_point() and single.is_floating_point():
        assert double.dtype == torch.float64
        assert (double - single).abs().mean() < 1e-3


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_a_gpu_gives_the_same(name: str) -> None:
    module, x = example(name)
    plain = _out(module.double(), _double(x))
    moved = {k: v.cuda() for k, v in _double(x).items()} if isinstance(x, dict) else _double(x).cuda()
    found = _out(module.cuda(), moved)
    assert found.is_cuda
    assert torch.allclose(found.cpu().double(), plain.double(), atol=1e-6)


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_a_compiled_network_gives_the_same(name: str) -> None:
    module, x = example(name)
    plain = _out(module, x)
    torch._dynamo.reset()
    assert torch.allclose(_out(torch.compile(module, backend="eager"), x).double(), plain.double(), atol=1e-5)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_every_hidden_variable_is_recorded_under_its_axes(name: str) -> None:
    module, x = example(name)
    found = probes(module)
    assert bool(found) != (name in PARTS)
    if not found:
        return
    acts = nissl.record(module, x, at=list(found))
    for path, probe in found.items():
        assert tuple(str(d).split("_")[0] for d in acts[path].dims) == tuple(d.split("_")[0] for d in probe.dims), path
        assert acts[path].sizes["sample"] == 3


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_an_intervention_that_changes_nothing_changes_nothing(name: str) -> None:
    """Step by step the network gives what its fast form gives, at every site."""
    module, x = example(name)
    model = nissl.load(module)
    plain = _out(module, x)
    for path in probes(module):
        with nissl.intervene(model, {path: lambda value: value.clone()}):
            assert torch.allclose(_out(module, x).double(), plain.double(), atol=1e-4), path
        assert torch.equal(_out(module, x), plain), path


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_the_random_numbers_of_others_are_left_alone(name: str) -> None:
    module, x = example(name)
    before = torch.get_rng_state()
    _out(module, x)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_it_says_what_it_is(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    module, _ = example(name)
    assert module.extra_repr()
    entry = networks()[name]
    assert {"Parameters", "Notes", "References", "Examples"} <= set(entry.sections), entry.sections.keys()
    assert len(entry.summary) > 20
    own = {p for p in inspect.signature(type(module).__init__).parameters if p not in ("self", "args", "kwargs")}
    undocumented = [p for p in own if p not in entry.sections["Parameters"]]
    assert not undocumented
    with pytest.raises(SystemExit) as end:
        cli.main(["nn", "show", name.lower()])
    assert not end.value.code
    shown = capsys.readouterr().out
    assert "Equations and state" in shown
    assert entry.summary.split()[0] in shown


def _double(x: Any) -> Any:
    if isinstance(x, dict):
        return {name: _double(value) for name, value in x.items()}
    return x.double() if x.is_floating_point() else x


def _out(module: nn.Module, x: Any) -> Tensor:
    with torch.no_grad():
        value = main_tensor(module(**x) if isinstance(x, dict) else module(x))
    assert value is not None
    return value
