"""What is read off a circuit diagram: programs, cost, memory, the way back, text; each against torch, and what is refused."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from functools import lru_cache

import pytest
import sympy
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from nissl.diagrams import circuit
from nissl.diagrams._sizes import at_example, evaluate, parse
from nissl.diagrams.architectures import ARCHITECTURES, Block, architecture
from nissl.diagrams.circuit import Array, Axis, CircuitDiagram, Operation, Ref
from nissl.diagrams.cost import degree, flops
from nissl.diagrams.derivative import backward, gradients
from nissl.diagrams.expressions import broadcast, elementwise, linear, softmax
from nissl.diagrams.memory import memory
from nissl.diagrams.program import compile_diagram, tensors_of
from nissl.diagrams.text import columns, from_json, to_json, to_latex, to_text
from nissl.errors import DiagramError, InputError, ModelError, NisslError, UnknownNameError
from nissl.evaluation._reading import run_text
from nissl.evaluation._swapping import swapped
from nissl.evaluation._tracking import measured_memory
from nissl.evaluation.diagrams import broadcast_laws, counted_flops, diagram_matches, largest_gap

pytestmark = pytest.mark.filterwarnings("ignore:TF32")


@lru_cache(maxsize=64)
def drawn(name, dtype=torch.float64, simplified=True):
    net = architecture(name, dtype=dtype)
    return net, circuit(net.module, net.inputs, axes=net.axes, simplified=simplified)


# Programs, laws, cost


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_diagram_is_its_network(name):
    net, diagram = drawn(name)
    match = diagram_matches(net.module, diagram, net.inputs, net.more, repeats=4)
    assert max(match.gaps) <= 1e-10
    assert match.flops == match.counted
    assert match.lawful, match.laws[match.laws["held"].between(0.01, 0.99)]
    assert match.holds


@pytest.mark.parametrize("name", ["multi-head attention", "u-net", "vision transformer"])
def test_single_precision_and_every_operator(name):
    net, diagram = drawn(name, torch.float32)
    assert (
        max(largest_gap([net.module(*x)], [compile_diagram(diagram, net.module)(*x)]) for x in (net.inputs, net.more))
        <= 1e-5
    )
    net, diagram = drawn(name, torch.float64, simplified=False)
    assert largest_gap([net.module(*net.more)], [compile_diagram(diagram, net.module)(*net.more)]) <= 1e-10


def test_swapped_axes_of_equal_size_are_noticed():
    net, diagram = drawn("multi-head attention")
    other = swapped(diagram, ("head", "key"))
    assert other is not None
    assert largest_gap([net.module(*net.inputs)], [compile_diagram(other, net.module)(*net.inputs)]) > 1e-3
    with pytest.raises(InputError, match="swap equal ones"):
        swapped(diagram, ("head", "model"))


def test_an_equation_is_really_run():
    expression = broadcast(linear("m -> k", "w", m=4, k=4), "b") @ elementwise(torch.tanh)
    diagram = expression.diagram(b=4)
    (step, tanh) = diagram.operations
    wrong = replace(diagram, operations=(replace(step, equation="b m, m k -> b k"), tanh))
    x, w = torch.randn(4, 4), {"w.weight": torch.randn(4, 4)}
    right = torch.tanh(x @ w["w.weight"].T)
    torch.testing.assert_close(compile_diagram(diagram)(x, parameters=w), right)
    torch.testing.assert_close(compile_diagram(wrong)(x, parameters=w), torch.tanh(x @ w["w.weight"]))


def test_a_softmax_drawn_as_run_along_its_axis_is_found_out():
    diagram = softmax("k").on("b k", {"k": 5}).diagram(b=3)
    (step,) = diagram.operations
    assert broadcast_laws(diagram, [torch.randn(3, 5)])["held"].tolist() == [1.0, 0.0]
    wrong = replace(diagram, operations=(replace(step, acted=(), broadcast=("b", "k")),))
    laws = broadcast_laws(wrong, [torch.randn(3, 5)])
    assert laws.set_index("axis")["held"].to_dict() == {"b": 1.0, "k": 0.0}


@pytest.mark.parametrize(
    ("module", "shape", "axes", "known"),
    [
        (nn.Linear(8, 5), (3, 7, 8), "batch time model", 1680),
        (nn.Conv2d(3, 6, 3, groups=3, padding=1), (2, 3, 8, 8), "batch channel y x", 13824),
        (Block(16, 4), (2, 10, 16), "batch time model", 135680),
        (nn.GRU(8, 5, batch_first=True), (3, 7, 8), "batch time model", 8190),
    ],
)
def test_known_costs(module, shape, axes, known):
    diagram = circuit(module.eval(), shape, axes=axes)
    assert at_example(diagram, diagram.flops()) == known == counted_flops(module, [torch.randn(shape)])


class Mixed(nn.Module):
    """Torch's own attention, a norm without a mean, and a layer that stands in two places."""

    def __init__(self):
        super().__init__()
        self.attention, self.norm = nn.MultiheadAttention(16, 4, batch_first=True), nn.RMSNorm(16)
        self.shared = nn.Linear(16, 16)

    def forward(self, x):
        y = self.norm(self.attention(x, x, x, need_weights=False)[0])
        return self.shared(torch.tanh(self.shared(y)))


@pytest.mark.parametrize("module", [Mixed(), nn.GRU(16, 5, batch_first=True)])
def test_torchs_own_layers_and_shared_ones(module):
    module, x = module.double().eval(), torch.randn(2, 6, 16, dtype=torch.float64)
    diagram = circuit(module, (x,), axes="batch time model")
    match = diagram_matches(module, diagram, [x], repeats=3)
    assert match.holds
    found = gradients(diagram, [x], parameters=module)
    outputs = module(x)
    sum(o.sum() for o in (outputs if isinstance(outputs, tuple) else (outputs,))).backward()
    for name, weight in module.named_parameters():
        torch.testing.assert_close(found[name], weight.grad)


def test_convolution_is_unfold_and_a_product():
    net = nn.Conv2d(3, 6, 3, stride=2, padding=1, dilation=2).double()
    x = torch.randn(2, 3, 9, 9, dtype=torch.float64)
    parts = nn.functional.unfold(x, 3, dilation=2, padding=1, stride=2)
    by_hand = (net.weight.flatten(1) @ parts).reshape(2, 6, 4, 4) + net.bias[:, None, None]
    got = compile_diagram(circuit(net, (x,), axes="batch channel y x"), net)(x)
    torch.testing.assert_close(got, by_hand)


def test_costs_as_tables_and_degrees():
    _, diagram = drawn("encoder-decoder")
    table = flops(diagram, by="operation")
    assert table["example"].sum() == at_example(diagram, flops(diagram))
    for by in ("module", "kind"):
        assert flops(diagram, by=by)["example"].sum() == table["example"].sum()
    block = circuit(Block(16, 4), (2, 10, 16), axes="batch time model")
    assert (degree(block, "time", module="attention"), degree(block, "time", module="mlp"), degree(block, "batch")) == (
        2,
        1,
        1,
    )
    with pytest.raises(InputError, match="allowed: operation, module, kind"):
        flops(diagram, by="layer")
    with pytest.raises(UnknownNameError, match="unknown free size 'tim'; nearest: 'time'"):
        degree(block, "tim")
    with pytest.raises(UnknownNameError, match="unknown module 'atention'; nearest: 'attention'"):
        degree(block, "time", module="atention")


class Vectors(nn.Module):
    """Products that torch's counter leaves out: a matrix and a vector, two vectors, two vectors and a matrix for every output."""

    def __init__(self):
        super().__init__()
        self.weight, self.bilinear = nn.Parameter(torch.randn(5, 4)), nn.Bilinear(5, 4, 3)

    def forward(self, x):
        y = torch.addmv(self.weight[:, 0], self.weight, x) + self.weight.mv(x)
        return self.bilinear(y, x) + torch.dot(x, x)


def test_products_with_vectors_and_bilinear_maps_cost_what_they_do():
    net, x = Vectors().double(), torch.randn(4, dtype=torch.float64)
    diagram = circuit(net, (x,), dynamic=None)
    assert diagram.flops() == 2 * (5 * 4 + 5 * 4 + 5 * 4 * 3 + 4)
    match = diagram_matches(net, diagram, x, repeats=3)
    assert match.holds
    assert match.counted == (208,)


# The mode in which it was drawn, branches, experts


@pytest.mark.parametrize("drawn_in", [False, True])
@pytest.mark.parametrize("mode", [False, True])
def test_a_network_is_run_as_it_was_drawn_and_put_back(drawn_in, mode):
    net = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.ReLU(), nn.Linear(8, 2)).train(mode)
    net[1].eval()
    x = torch.randn(6, 4)
    diagram = circuit(net, (x,), training=drawn_in)
    before = {n: t.clone() for n, t in net.state_dict().items()}
    torch.manual_seed(3)
    assert diagram_matches(net, diagram, x, torch.randn(3, 4), repeats=3).holds
    assert [m.training for m in net] == [mode, False, mode, mode, mode]
    assert all(torch.equal(t, before[n]) for n, t in net.state_dict().items())
    torch.manual_seed(5)
    drawn_number, _ = torch.rand(()), torch.manual_seed(5)
    diagram_matches(net, diagram, x, repeats=1)
    assert torch.equal(torch.rand(()), drawn_number)


class Experts(nn.Module):
    """Two of four experts for every row."""

    def __init__(self):
        super().__init__()
        self.router = nn.Linear(8, 4)
        self.experts = nn.ModuleList(nn.Linear(8, 8) for _ in range(4))

    def forward(self, x):
        share, chosen = self.router(x).softmax(-1).topk(2, -1)
        y = torch.zeros_like(x)
        for n, expert in enumerate(self.experts):
            row, place = torch.where(chosen == n)
            y.index_add_(0, row, share[row, place, None] * expert(x[row]))
        return y


class Branch(nn.Module):
    def forward(self, x):
        return x.relu() if x.sum() > 0 else x.tanh()


def test_sparse_experts_are_tried_on_the_indices_that_they_hold():
    torch.manual_seed(0)
    net, x = Experts(), torch.randn(12, 8)
    match = diagram_matches(net, circuit(net, (x,)), x, repeats=4)
    assert match.equal
    assert match.lawful
    assert (match.laws["role"] == "broadcast").sum() > 4


@pytest.mark.parametrize(("net", "shape"), [(Branch(), (3, 4)), (Experts(), (12, 8))])
def test_a_program_of_one_branch_warns(net, shape):
    diagram = circuit(net, (torch.ones(shape),))
    assert diagram.complete
    with pytest.warns(UserWarning, match="followed on the values of its example.*asks for values at") as said:
        diagram.compile()
    assert len(said) == 1
    with pytest.warns(UserWarning, match="followed"):
        compile_diagram(from_json(to_json(diagram)))


def test_other_programs_do_not_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        circuit(nn.Linear(4, 2), (3, 4)).compile()
        diagram_matches(Branch(), circuit(Branch(), (torch.ones(3, 4),)), torch.ones(3, 4), repeats=2)


def test_diagram_matches_refuses():
    net, x = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)), torch.randn(2, 4)
    diagram = circuit(net, (x,))
    for wrong, error, said in [
        ((diagram, net, x), InputError, "first comes the torch module.*swap them"),
        ((net, "diagram", x), InputError, "draw one with"),
        ((nn.Linear(4, 3), diagram, x), DiagramError, "another network than this Linear: it reads '0.bias'"),
        ((nn.Sequential(nn.Linear(4, 9), nn.ReLU(), nn.Linear(9, 3)), diagram, x), DiagramError, r"\(9,\)"),
        ((net, diagram, x.numpy()), InputError, r"numpy\.ndarray; allowed"),
        ((net, diagram, [x.numpy()]), InputError, "numpy.ndarray; allowed: torch tensors"),
        ((net, diagram, 3), InputError, r"a builtins\.int"),
        ((net, diagram, [x, x]), InputError, "takes 1 inputs"),
        ((net, diagram, torch.randn(2, 5)), InputError, "5 indices; allowed: 4"),
        ((net, diagram, x.double()), ModelError, "does not run on .* float64; its own words"),
        ((net, diagram, torch.full((2, 4), float("nan"))), InputError, "holds NaN"),
        ((net, diagram, torch.randn(0, 4)), InputError, "nothing to compare"),
    ]:
        with pytest.raises(error, match=said):
            diagram_matches(*wrong)
    assert largest_gap([x], [x, x]) == float("inf")


def test_programs_refuse_what_is_no_tensor_and_ask_for_weights():
    net, x = nn.Linear(4, 3), torch.randn(2, 4)
    program = circuit(net, (x,)).compile()
    with pytest.raises(
        InputError, match=r"needs weights \('bias', 'weight', 2 in all\); call program\(x, parameters=module"
    ):
        program(x)
    with pytest.raises(InputError, match=r"numpy\.ndarray; allowed: torch tensors"):
        program(x.numpy(), parameters=net)
    with pytest.raises(InputError, match="parameters is a int"):
        program(x, parameters=3)
    with pytest.raises(UnknownNameError, match="another network"):
        program(x, parameters=nn.ReLU())
    with pytest.raises(InputError, match="no diagram"):
        compile_diagram(net)


def test_diagrams_and_memory_show_themselves_in_one_line():
    _, diagram = drawn("vision transformer")
    for one in (diagram, diagram.memory()):
        assert "\n" not in repr(one)
        assert len(repr(one)) < 400
    small = circuit(nn.Linear(4, 3), (2, 4))
    assert repr(small) == "CircuitDiagram('Linear': 1 operations; free sizes batch=2; flops 24*batch)"
    assert repr(small.memory()).startswith("Memory('Linear': 1 operations; bytes at batch=2: peak 24, saved")


# Memory


def test_memory_of_the_image_mlp():
    net = nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10))
    found = memory(circuit(net, (64, 784), axes="batch pixel"))
    assert measured_memory(net, [torch.randn(64, 784)]) == (262144, 462848)
    assert (found.example["peak"], found.example["saved"]) == (262144, 462848)
    batch = next(iter(found.diagram.symbols()))
    assert (found.peak, found.saved) == (4096 * batch, 7232 * batch)
    assert found.steps["example"].max() == 262144
    assert found.example["parameters"] == 4 * sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize("name", [n for n in ARCHITECTURES if n != "attention"])
def test_what_training_keeps_is_what_autograd_keeps(name):
    net, diagram = drawn(name, torch.float64, False)
    peak, saved = measured_memory(net.module, net.inputs)
    found = memory(diagram).example
    assert found["saved"] == saved
    assert found["peak"] <= peak  # arrays end with their last use; Python's names hold some of them longer


# The way back


def torchs(module, inputs, seed=1):
    """Outputs' gradient, true gradients by name, and what the counter counts on the way back."""
    inputs = [x.clone().requires_grad_() for x in inputs]
    module.zero_grad()
    with sdpa_kernel(SDPBackend.MATH):
        out = module(*inputs)
        grad = torch.randn(out.shape, generator=torch.Generator().manual_seed(seed), dtype=out.dtype)
        with FlopCounterMode(display=False) as counter:
            out.backward(grad)
    return grad, {n: p.grad for n, p in module.named_parameters()}, [x.grad for x in inputs], counter.get_total_flops()


@pytest.mark.parametrize("simplified", [True, False])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_the_way_back_is_autograds(name, simplified):
    net, diagram = drawn(name, torch.float64, simplified)
    grad, weights, inputs, counted = torchs(net.module, net.inputs)
    found = gradients(diagram, net.inputs, [grad], parameters=net.module)
    for key, true in {**weights, **dict(zip(diagram.inputs, inputs, strict=True))}.items():
        torch.testing.assert_close(found[key], true, rtol=1e-10, atol=1e-10)
    own = at_example(diagram, backward(diagram).flops())
    # torch's counter takes a grouped convolution's weight gradient for that of a full one
    assert own == counted or (name == "convolution, grouped" and counted == own / 2 * (1 + 3))


def test_the_way_back_without_gradients_of_inputs():
    net, diagram = drawn("mlp")
    net.module.zero_grad()
    with FlopCounterMode(display=False) as counter:
        out = net.module(*net.inputs)
        counter_before = counter.get_total_flops()
        out.sum().backward()
    back = backward(diagram, wrt=[n for n, _ in net.module.named_parameters()])
    assert at_example(back, back.flops()) == counter.get_total_flops() - counter_before
    assert all(o.startswith(tuple("0123456789")) for o in back.outputs)


def test_a_gradient_that_is_passed_on_unchanged_has_both_names():
    both = elementwise(lambda a, b: a + b).on("n, n").diagram(n=3)
    found = gradients(both, [torch.randn(3), torch.randn(3)], [torch.arange(3.0)])
    assert {k: v.tolist() for k, v in found.items()} == {"x0": [0, 1, 2], "x1": [0, 1, 2]}


def test_dropout_goes_back_through_what_it_drew():
    net = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 2)).double()
    x = torch.randn(3, 4, dtype=torch.float64)
    diagram = circuit(net, (x,), training=True, simplified=False)
    held = compile_diagram(diagram, net)
    torch.manual_seed(0)
    out = held(x)
    torch.manual_seed(0)
    found = gradients(diagram, [x], [torch.ones_like(out)], parameters=net)
    torch.manual_seed(0)
    net.train()(x).sum().backward()
    torch.testing.assert_close(found["0.weight"], net[0].weight.grad)
    simple = circuit(net, (x,), training=True)
    if any(len(o.outputs) == 1 for o in simple.operations if "dropout" in o.target):
        with pytest.raises(DiagramError, match="simplified=False"):
            backward(simple)


def test_a_chain_costs_about_twice_as_much_back():
    chain = linear("m -> k", "a", m=8, k=8) @ elementwise(torch.tanh) @ linear("k -> n", "b", n=8)
    diagram = broadcast(chain, "batch").diagram(batch=4)
    assert backward(diagram).flops() == 2 * diagram.flops()


def test_the_way_back_refuses():
    diagram = linear("m -> k", "w", m=3, k=2).diagram()
    with pytest.raises(UnknownNameError, match=r"unknown array 'w.wieght'"):
        backward(diagram, wrt=["w.wieght"])
    with pytest.raises(DiagramError, match="partial"):
        backward(replace(diagram, complete=False))
    with pytest.raises(InputError, match="given 2"):
        gradients(diagram, [torch.randn(3)], [torch.ones(2)] * 2, parameters={"w.weight": torch.ones(2, 3)})


# Text


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_json_is_read_back_and_text_is_enough_to_build_the_network(name):
    net, diagram = drawn(name)
    assert from_json(to_json(diagram)) == diagram
    assert to_json(from_json(to_json(diagram))) == to_json(diagram)
    back = backward(diagram)
    assert from_json(to_json(back)) == back
    assert to_text(diagram) == to_text(from_json(to_json(diagram)))
    for x in (net.inputs, net.more):
        assert largest_gap([net.module(*x)], run_text(to_text(diagram), x, tensors_of(net.module))) <= 1e-10


def test_columns_hold_what_is_read_later():
    diagram = broadcast(linear("m -> k", "w", m=3, k=2), "b").diagram(b=4)
    assert columns(diagram) == [("x",), ("w",)]
    assert "    b m\nw: b k, float32 <- x, w.weight :: linear b m, k m -> b k\n    b k" in to_text(diagram)
    table = to_latex(drawn("multi-head attention")[1])
    assert table.count(r"\\") == len(drawn("multi-head attention")[1].operations) + 1
    assert r"\mathrm{batch}" in table


def one_step(target="aten.relu.default", arguments=None, **options):
    arguments = (Ref("x"),) if arguments is None else arguments
    step = Operation(
        "f", "elementwise", "f", ("x",), ("y",), broadcast=("n",), target=target, arguments=arguments, **options
    )
    return CircuitDiagram("d", {"n": Axis("n", 3)}, {n: Array(n, ("n",)) for n in "xy"}, (step,), ("x",), ("y",))


@pytest.mark.parametrize("value", [float("inf"), 1.5, None, True, (1, (2, Ref("x"))), torch.float16, [1, "a"], 2j])
def test_arguments_of_all_kinds_are_read_back(value):
    diagram = one_step(arguments=(Ref("x"), value))
    assert from_json(to_json(diagram)) == diagram


@pytest.mark.parametrize(
    "size",
    [
        "__import__('os').system('true')",
        "n.__class__",
        "open('x')",
        "9**9**9",
        "2**1000000",
        "lambda: 1",
        "[1]",
        "'a'",
        "",
    ],
)
def test_sizes_in_json_are_only_arithmetic(size):
    data = json.loads(to_json(one_step()))
    data["sizes"] = {"n": size}
    data["symbols"] = {"n": ["integer", "positive"]}
    with pytest.raises(DiagramError):
        from_json(json.dumps(data))


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"nissl diagram": 1}', '{"nissl diagram": 2}', "{" * 5000])
def test_other_json_is_refused(text):
    with pytest.raises(DiagramError, match="diagram"):
        from_json(text)


def test_sizes_are_parsed_and_evaluated_as_sympy_does():
    n, t = (sympy.Symbol(s, integer=True, positive=True) for s in "nt")
    for e in (n * t**2 + 3, sympy.floor((n - 1) / 2) + 1, sympy.Max(n, 4) - sympy.Mod(t, 3), n / 2 * t * 4, -n + 2 * t):
        assert parse(str(e), {"n": n, "t": t}) == e
        assert evaluate(e, {n: 7, t: 10}) == e.subs({n: 7, t: 10})


# What is not run


@pytest.mark.parametrize(
    "target",
    [
        "aten.from_file.default",
        "os.system",
        "aten.no_such_thing.default",
        "builtins.eval",
        "aten.relu.no_overload",
        "torch.ops",
    ],
)
def test_only_registered_operators_are_run(target):
    with pytest.raises(DiagramError):
        compile_diagram(one_step(target))
    steps = (((("a",), target, (3,), ()),), "a")
    with pytest.raises(NisslError):
        compile_diagram(one_step("nissl.steps", steps))(torch.randn(3))


def test_a_box_that_stands_for_others_is_not_compiled():
    with pytest.raises(DiagramError, match="only stands for others"):
        compile_diagram(one_step("", ()))
    with pytest.raises(DiagramError, match="followed only in part"):
        compile_diagram(replace(one_step(), complete=False, notes=("ends at a.py:3",)))
    with pytest.raises(DiagramError, match="feedback"):
        compile_diagram(replace(one_step(), feedback=frozenset("y")))


def test_other_sizes_than_drawn_are_refused():
    net, diagram = drawn("multi-head attention")
    with pytest.raises(InputError, match=r"axis 'model' of 'x' has 15 indices; allowed: 16"):
        compile_diagram(diagram, net.module)(torch.randn(2, 3, 15))
