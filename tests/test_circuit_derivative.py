"""The way back of what was written into and cast, and the sizes at which a diagram holds."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nissl.diagrams import circuit
from nissl.diagrams.derivative import gradients
from nissl.diagrams.text import from_json, to_json
from nissl.errors import DiagramError, InputError


class Runs(nn.Module):
    """A function of an input and of modules."""

    def __init__(self, function, *modules):
        super().__init__()
        self.function, self.parts = function, nn.ModuleList(modules)

    def forward(self, x):
        return self.function(x, *self.parts)


def same_gradients(module, x, simplified):
    diagram = circuit(module, (x,), simplified=simplified)
    x = x.clone().requires_grad_()
    wanted = torch.autograd.grad(module(x).sum(), [x, *module.parameters()])
    found = gradients(diagram, [x.detach()], parameters=module)
    for name, grad in zip([diagram.inputs[0], *dict(module.named_parameters())], wanted, strict=True):
        assert found[name].dtype == grad.dtype
        tolerance = 5e-2 if grad.dtype == torch.bfloat16 else 1e-5
        torch.testing.assert_close(found[name], grad, rtol=tolerance, atol=tolerance)


def one_column(x, layer):
    y = layer(x)
    y[:, 0] = y[:, 1] * 2
    return y


def shifted(x, layer):
    y = layer(x)
    out = torch.zeros_like(y)
    out[:, 1:] = y[:, :-1]
    out[:, 0] = y[:, 3].sin()
    return out.sin()


def all_rows(x, layer):
    y = layer(x)
    y[:] = y[0] * 2
    return y.cos()


def wider(x, layer):
    y = layer(x)
    return torch.zeros(y.shape, dtype=torch.float64).copy_(y).sin()


def attention(x, layer):
    a = layer(x)
    return F.softmax(a @ a.mT, dim=-1, dtype=torch.float32).to(a.dtype) @ a


@pytest.mark.parametrize("simplified", [True, False])
@pytest.mark.parametrize("function", [one_column, shifted, all_rows, wider])
def test_what_is_written_over_has_a_way_back(function, simplified):
    same_gradients(Runs(function, nn.Linear(4, 5)), torch.randn(3, 4), simplified)


@pytest.mark.parametrize("simplified", [True, False])
def test_circular_padding_has_a_way_back(simplified):
    same_gradients(nn.Conv2d(2, 3, 3, padding=1, padding_mode="circular"), torch.randn(2, 2, 5, 5), simplified)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_softmax_in_another_type(dtype):
    torch.manual_seed(0)
    same_gradients(Runs(attention, nn.Linear(4, 4)).to(dtype), torch.randn(3, 5, 4).to(dtype) / 2, True)


CASTS = {
    "log_softmax": lambda x, f: F.log_softmax(f(x), -1, dtype=torch.float64),
    "there and back": lambda x, f: f(x).double().sin().float(),
    "product": lambda x, f: f(x) * torch.ones(4).double(),
    "sum of two": lambda x, f: f(x) + torch.ones(4).double(),
    "sum": lambda x, f: f(x).sum(0, dtype=torch.float64),
    "matrix": lambda x, f: f(x).double() @ torch.ones(4, 2).double(),
}


@pytest.mark.parametrize("name", CASTS)
def test_a_cast_is_cast_back(name):
    same_gradients(Runs(CASTS[name], nn.Linear(4, 4)), torch.randn(3, 4), True)


@pytest.mark.parametrize(
    ("function", "x", "w", "b", "flops"),
    [(torch.addmm, (5, 4), (4, 4), (4,), 320), (torch.baddbmm, (2, 5, 4), (2, 4, 4), (2, 5, 4), 640)],
)
def test_a_scaled_bias_costs_no_product_on_the_way_back(function, x, w, b, flops):
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.w, self.b = nn.Parameter(torch.randn(w)), nn.Parameter(torch.randn(b))

        def forward(self, x):
            return function(self.b, x, self.w, alpha=0.5, beta=2)

    same_gradients(Scaled(), torch.randn(x), True)
    assert circuit(Scaled(), (torch.randn(x),), dynamic=None).backward().flops() == flops


GUARDS = {
    "order": (lambda x: x.sum(1) if x.shape[1] > 4 else x.mean(1), 3, 4, 9),
    "even": (lambda x: x.sum(1) if x.shape[1] % 2 == 0 else x.mean(1), 4, 6, 5),
    "unequal": (lambda x: x.sum(1) if x.shape[1] == 7 else x.mean(1), 3, 6, 7),
    "two sizes": (lambda x: x.sum(1) if x.shape[1] > x.shape[0] else x.mean(1), 5, 7, 2),
}


@pytest.mark.parametrize("name", GUARDS)
def test_where_the_code_takes_another_way_nothing_is_run(name):
    function, drawn, allowed, other = GUARDS[name]
    module = Runs(function)
    diagram = circuit(module, (torch.randn(2, drawn, 4),), axes="batch time model")
    assert any("holds for" in n and "test_circuit_derivative.py" in n for n in diagram.notes)
    for held in (diagram, from_json(to_json(diagram))):
        assert held.guards == diagram.guards
        program = held.compile()
        x = torch.randn(2, allowed, 4)
        torch.testing.assert_close(program(x), module(x))
        with pytest.raises(InputError, match=r"holds for .*test_circuit_derivative.py:\d+"):
            program(torch.ones(2, other, 4))


def test_a_guard_is_read_without_running_it():
    diagram = circuit(Runs(GUARDS["order"][0]), (torch.randn(2, 3, 4),), axes="batch time model")
    text = to_json(diagram).replace("time <= 4", "__import__('os') <= 4")
    with pytest.raises(DiagramError, match="a size may not hold"):
        from_json(text)


FREE = {
    "nearest": (nn.Upsample(scale_factor=2), (3, 2, 4, 4)),
    "size": (nn.Upsample(size=(9, 7), mode="bilinear"), (3, 2, 4, 4)),
    "corners": (nn.Upsample(scale_factor=1.5, mode="bilinear", align_corners=True), (3, 2, 4, 4)),
    "bicubic": (nn.Upsample(scale_factor=2, mode="bicubic"), (3, 2, 4, 4)),
    "exact": (nn.Upsample(scale_factor=1.7, mode="nearest-exact"), (3, 2, 5, 4)),
    "trilinear": (nn.Upsample(scale_factor=2, mode="trilinear"), (3, 2, 4, 4, 4)),
    "unfold": (nn.Unfold(2, padding=1, stride=2), (3, 2, 5, 4)),
    "fold": (nn.Fold((4, 4), 2), (3, 8, 9)),
    "rfft": (Runs(lambda x: torch.fft.rfft(x).real), (3, 9)),
    "irfft": (Runs(lambda x: torch.fft.irfft(torch.fft.fft(x)[..., :5], n=8)), (3, 8)),
    "einsum": (Runs(lambda x: torch.einsum("bi,bj,bi->bj", x, x, x)), (3, 4)),
}


@pytest.mark.parametrize("name", FREE)
def test_the_batch_stays_free(name):
    module, shape = FREE[name]
    diagram = circuit(module, (torch.randn(shape),))
    assert "batch" in map(str, diagram.symbols())
    x = torch.randn(5, *shape[1:])
    torch.testing.assert_close(diagram.compile()(x), module(x))


def test_time_of_a_resampled_sound_stays_free():
    module = nn.Upsample(scale_factor=2.0)
    program = circuit(module, (torch.randn(3, 2, 5),), axes="batch channel time").compile()
    x = torch.randn(2, 2, 9)
    torch.testing.assert_close(program(x), module(x))


def test_what_torch_fixes_is_not_blamed_on_the_code():
    (note,) = (n for n in circuit(nn.GRUCell(4, 5), (torch.randn(3, 4),)).notes if "batch" in n)
    assert note == "batch is fixed at 3: torch's own code for GRUCell asks for it"
    (note,) = circuit(Runs(lambda x: x if x.shape[0] == 3 else x + 1), (torch.randn(3, 4),)).notes
    assert note.startswith("batch is always 3, as the code asks (test_circuit_derivative.py:")


def test_numbers_that_leave_torch_are_said_to_be_fixed():
    diagram = circuit(Runs(lambda x: x * float(x.detach().numpy().max())), (torch.randn(3, 4),))
    assert any("test_circuit_derivative.py:" in n and "fixed at their values" in n for n in diagram.notes)


def test_a_single_moment_is_said_to_be_fixed():
    diagram = circuit(Runs(lambda x: x * 2), (torch.randn(3, 1, 4),), axes="batch time model")
    assert any(n.startswith("time is fixed at 1") for n in diagram.notes)
