"""Circuit diagrams derived from torch modules: which axes are the same, what operators do with them, and what it costs."""

from __future__ import annotations

import inspect

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils import _pytree as pytree
from torch.utils.flop_counter import FlopCounterMode

import nissl
from nissl.diagrams import CircuitDiagram, Operation, circuit, compile_diagram, flops
from nissl.diagrams._steps import run_steps
from nissl.diagrams.tracing.identity import Identity, refine
from nissl.diagrams.tracing.sizes import symbol
from nissl.errors import InputError, ModelError, UnknownNameError


class HandWritten(nn.Module):
    """Attention as one writes it."""

    def __init__(self, model: int = 12, heads: int = 3) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.out = (nn.Linear(model, model) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        b, t, d = x.shape
        q, k, v = (
            f(x).view(b, t, self.heads, d // self.heads).transpose(1, 2) for f in (self.query, self.key, self.value)
        )
        pattern = (q @ k.transpose(-1, -2) / (d // self.heads) ** 0.5).softmax(-1)
        return self.out((pattern @ v).transpose(1, 2).reshape(b, t, d))


class Residual(nn.Module):
    """A block of a ResNet."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(4, 8, 3, 2, 1, bias=False), nn.Conv2d(8, 8, 3, 1, 1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(8) for _ in range(2))
        self.short, self.relu = nn.Conv2d(4, 8, 1, 2, bias=False), nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norms[1](self.second(self.relu(self.norms[0](self.first(x)))))
        y += self.short(x)
        return self.relu(y)


class UNet(nn.Module):
    """Down, up, and a skip."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.low, self.out = (
            nn.Conv2d(3, 8, 3, padding=1),
            nn.Conv2d(8, 16, 3, padding=1),
            nn.Conv2d(16, 4, 3, padding=1),
        )
        self.up = nn.ConvTranspose2d(16, 8, 2, 2)

    def forward(self, x: Tensor) -> Tensor:
        high = self.down(x).relu()
        return self.out(torch.cat([high, self.up(self.low(functional.max_pool2d(high, 2)).relu())], 1))


def hugging_face(family: str) -> nn.Module:
    import transformers

    small = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 24}
    if family == "gpt2":
        config = transformers.GPT2Config(n_layer=2, n_embd=16, n_head=4, vocab_size=50, bos_token_id=0, eos_token_id=0)
        return transformers.GPT2LMHeadModel(config).eval()
    if family == "llama":
        return transformers.LlamaForCausalLM(
            transformers.LlamaConfig(**small, num_key_value_heads=2, vocab_size=50)
        ).eval()
    if family == "mixtral":
        config = transformers.MixtralConfig(**small, num_key_value_heads=2, vocab_size=50, num_local_experts=4)
        return transformers.MixtralForCausalLM(config).eval()
    return transformers.ViTForImageClassification(transformers.ViTConfig(**small, image_size=32, patch_size=8)).eval()


def ids(*shape: int) -> Tensor:
    return torch.randint(0, 50, shape, generator=torch.Generator().manual_seed(0))


def numbers(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def counted(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[int, list[Tensor]]:
    """What torch's own counter has, and the outputs."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    more = {"use_cache": False} if "use_cache" in inspect.signature(module.forward).parameters else {}
    counter = FlopCounterMode(display=False)
    try:
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), torch.backends.mkldnn.flags(enabled=False), counter:
            output = module(*args, **more)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    output = list(output.values())[:1] if isinstance(output, dict) else output
    return counter.get_total_flops(), [t for t in pytree.tree_leaves(output) if isinstance(t, Tensor)]


def total(diagram: CircuitDiagram) -> int:
    return int(flops(diagram).subs({symbol(str(s)): n for s, n in diagram.symbols().items()}))  # type: ignore[union-attr]


def kinds(diagram: CircuitDiagram, kind: str) -> list[Operation]:
    return [o for o in diagram.operations if o.kind == kind]


def axes_in(diagram: CircuitDiagram, operation: Operation) -> list[tuple[str, ...]]:
    return [diagram.arrays[n].axes for n in operation.inputs]


MODELS = {
    "mlp": (lambda: nn.Sequential(nn.Linear(8, 16), nn.ReLU(inplace=True), nn.Linear(16, 4)), (numbers(2, 8),), (numbers(5, 8),)),
    "attention": (lambda: nn.MultiheadAttention(16, 4, batch_first=True), (numbers(2, 10, 16),) * 3, (numbers(3, 7, 16),) * 3),
    "hand-written": (HandWritten, (numbers(2, 10, 12),), (numbers(3, 5, 12),)),
    "encoder": (lambda: nn.TransformerEncoderLayer(16, 4, 32, batch_first=True).eval(), (numbers(2, 10, 16),), (numbers(3, 7, 16),)),
    "transformer": (lambda: nn.Transformer(16, 4, 1, 1, 32, batch_first=True).eval(), (numbers(2, 9, 16), numbers(2, 6, 16)), None),
    "one feature": (lambda: nn.Sequential(nn.Linear(1, 8), nn.ReLU(), nn.Linear(8, 1)), (numbers(2, 5, 1),), (numbers(3, 4, 1),)),
    "a key of one": (lambda: nn.MultiheadAttention(8, 8, batch_first=True), (numbers(2, 10, 8),) * 3, (numbers(3, 7, 8),) * 3),
    "all sizes four": (lambda: nn.TransformerEncoderLayer(4, 4, 4, batch_first=True).eval(), (numbers(4, 4, 4),), (numbers(3, 5, 4),)),
    "stride": (lambda: nn.Conv2d(4, 8, 3, stride=2, padding=1), (numbers(2, 4, 12, 11),), (numbers(3, 4, 12, 11),)),
    "dilation": (lambda: nn.Conv2d(4, 8, 3, dilation=2), (numbers(2, 4, 12, 11),), (numbers(3, 4, 12, 11),)),
    "groups": (lambda: nn.Conv2d(4, 8, 3, groups=2, padding=1), (numbers(2, 4, 12, 11),), (numbers(3, 4, 12, 11),)),
    "depthwise": (lambda: nn.Conv2d(4, 4, 3, groups=4, padding=1), (numbers(2, 4, 12, 11),), (numbers(3, 4, 12, 11),)),
    "transposed": (lambda: nn.ConvTranspose2d(4, 8, 3, stride=2, groups=2), (numbers(2, 4, 12, 11),), (numbers(3, 4, 12, 11),)),
    "one-dimensional": (lambda: nn.Conv1d(4, 8, 3), (numbers(2, 4, 12),), (numbers(3, 4, 12),)),
    "volume": (lambda: nn.Conv3d(2, 3, 3), (numbers(2, 2, 5, 6, 7),), (numbers(3, 2, 5, 6, 7),)),
    "resnet": (lambda: Residual().eval(), (numbers(2, 4, 12, 12),), (numbers(3, 4, 12, 12),)),
    "u-net": (UNet, (numbers(2, 3, 16, 16),), (numbers(3, 3, 16, 16),)),
    "gru": (lambda: nn.GRU(5, 6, batch_first=True), (numbers(3, 4, 5),), None),
    "lstm": (lambda: nn.LSTM(5, 6, 2, bidirectional=True), (numbers(3, 4, 5),), None),
    "gpt2": (lambda: hugging_face("gpt2"), (ids(2, 10),), (ids(3, 7),)),
    "llama": (lambda: hugging_face("llama"), (ids(2, 10),), (ids(3, 7),)),
    "vit": (lambda: hugging_face("vit"), (numbers(2, 3, 32, 32),), (numbers(3, 3, 32, 32),)),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_a_diagram_costs_what_torch_counts_and_runs_as_the_module_does(name: str) -> None:
    make, args, other = MODELS[name]
    module = make()
    want, outputs = counted(module, args)
    for simplified in (False, True):
        diagram = circuit(module, args, simplified=simplified)
        assert diagram.complete
        assert not any("not understood" in n for n in diagram.notes)
        assert total(diagram) == want
        program = compile_diagram(diagram, module)
        with torch.no_grad():
            for inputs, expected in ((args, outputs), (other, other and counted(module, other)[1])):
                if inputs is None:
                    continue
                given = program(*inputs)
                given = given if isinstance(given, tuple) else (given,)
                for a, b in zip(given, expected, strict=True):
                    torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def test_the_counts_of_the_card() -> None:
    assert total(circuit(nn.Linear(8, 5), (3, 7, 8))) == 1680
    assert total(circuit(nn.Conv2d(3, 6, 3, padding=1, groups=3), (2, 3, 8, 8))) == 13824


@pytest.mark.parametrize(
    "sizes", [(2, 10, 12, 3), (12, 12, 12, 3), (4, 4, 16, 4)], ids=["distinct", "equal", "head = key = time"]
)
def test_attention_has_the_same_axes_whatever_their_sizes(sizes: tuple[int, int, int, int]) -> None:
    batch, time, model, heads = sizes
    diagram = circuit(HandWritten(model, heads), (batch, time, model), axes="batch time model")
    scores, mixed = kinds(diagram, "contraction")
    assert scores.equation == "batch time head key, batch time' head key -> batch head time time'"
    assert mixed.equation == "batch head time time', batch time' head value -> batch time head value"
    (softmax,) = kinds(diagram, "normalisation")
    assert (softmax.acted, softmax.broadcast) == (("time'",), ("batch", "head", "time"))
    assert scores.contracted == ("key",)
    assert mixed.contracted == ("time'",)
    assert [o.module for o in kinds(diagram, "linear")] == ["query", "key", "value", "out"]
    assert diagram.arrays[diagram.outputs[0]].axes[:2] == ("batch", "time")
    assert symbol("batch") in diagram.symbols()
    assert scores.flops == 2 * symbol("batch") * symbol("time") ** 2 * model


def test_residuals_keep_the_axis_and_a_square_weight_has_it_twice() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mix = nn.Linear(6, 6, bias=False)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.mix(x)

    diagram = circuit(Block(), (3, 6), axes="batch model")
    (linear,) = kinds(diagram, "linear")
    assert diagram.arrays["mix.weight"].axes == ("model", "model")
    assert linear.equation == "batch model', model model' -> batch model"
    assert (linear.contracted, linear.born) == (("model",), ("model",))


def test_cross_attention_keeps_both_times() -> None:
    module = nn.MultiheadAttention(16, 4, batch_first=True)
    query, memory = numbers(2, 10, 16), numbers(2, 7, 16)
    diagram = circuit(module, (query, memory, memory))
    (softmax,) = kinds(diagram, "normalisation")
    assert softmax.acted == ("key_time",)
    assert "time" in softmax.broadcast


def test_inputs_of_one_name_share_the_axis() -> None:
    class Sum(nn.Module):
        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return a.sum(0) * b.sum(0)

    names = {"a": "batch left", "b": "batch left"}
    diagram = circuit(Sum(), ((3, 4), (3, 4)), axes=names)
    assert [diagram.arrays[n].axes for n in diagram.inputs] == [("batch", "left")] * 2
    apart = circuit(Sum(), ((3, 4), (3, 4)), axes={"a": "sample left", "b": "trial left"}, dynamic=None)
    assert [diagram.axes[a].size for a in ("batch", "left")] == [3, 4]
    assert [apart.arrays[n].axes[0] for n in apart.inputs] == ["sample", "trial"]


def test_norms_act_on_what_they_keep() -> None:
    norm = nn.BatchNorm2d(4)
    assert kinds(circuit(norm, (2, 4, 5, 6)), "elementwise")[0].acted == ()
    (training,) = kinds(circuit(norm, (2, 4, 5, 6), training=True), "normalisation")
    assert training.acted == ("batch", "y", "x")
    assert any("in training mode" in n for n in circuit(norm, (2, 4, 5, 6), training=True).notes)
    (layer,) = kinds(circuit(nn.LayerNorm(6), (2, 3, 6), axes="batch time model"), "normalisation")
    assert (layer.acted, layer.broadcast) == (("model",), ("batch", "time"))
    (group,) = kinds(circuit(nn.GroupNorm(2, 4), (2, 4, 5, 6)), "normalisation")
    assert group.acted == ("channel", "y", "x")


def test_convolutions_say_what_they_do_with_channels_and_space() -> None:
    def read(module: nn.Module) -> Operation:
        return kinds(circuit(module, (2, 4, 12, 11)), "convolution")[0]

    plain, deep = read(nn.Conv2d(4, 8, 3, stride=2)), read(nn.Conv2d(4, 4, 3, groups=4, padding=1))
    assert (plain.contracted, plain.born) == (("channel",), ("channel_2",))
    assert plain.acted == ("y", "x", "y_2", "x_2")
    assert plain.broadcast == ("batch",)
    assert (deep.symbol, deep.contracted, deep.born) == ("depthwise convolution", (), ())
    assert deep.broadcast == ("batch", "channel")
    assert read(nn.ConvTranspose2d(4, 8, 3)).symbol == "transposed convolution"


def test_a_skip_joins_the_axes_it_left() -> None:
    diagram = circuit(UNet(), (2, 3, 16, 16))
    (joined,) = kinds(diagram, "join")
    assert {axes[2:] for axes in axes_in(diagram, joined)} == {("y", "x")}
    block = circuit(Residual(), (2, 4, 12, 12))
    (plus,) = [o for o in block.operations if o.symbol == "+"]
    assert len(set(axes_in(block, plus))) == 1


def test_tied_weights_tie_axes() -> None:
    diagram = circuit(hugging_face("gpt2"), ids(2, 10))
    assert diagram.arrays[diagram.outputs[0]].axes == ("batch", "time", "token")
    masks = [o for o in diagram.operations if o.symbol == "mask"]
    assert len(masks) == 1  # once for all layers
    assert masks[0].born == ("batch", "time", "time'")
    assert {o.acted for o in diagram.operations if o.symbol == "softmax"} == {("time'",)}


def test_grouped_queries_copy_keys_along_the_group() -> None:
    diagram = circuit(hugging_face("llama"), ids(2, 10))
    mixed = next(o for o in kinds(diagram, "contraction") if "time'" in o.contracted)
    first, second = axes_in(diagram, mixed)
    assert len(second) == 4  # values are read once for the whole group
    assert any(a.startswith("group") for a in first)


def test_mixture_of_experts_follows_the_routing() -> None:
    module = hugging_face("mixtral")
    want, outputs = counted(module, (ids(2, 10),))
    diagram = circuit(module, ids(2, 10))
    experts = [o for o in diagram.operations if o.symbol == "linear of each group"]
    assert len(experts) == 4
    assert (
        total(diagram) - sum(int(o.flops.subs(diagram.symbols())) for o in experts) == want
    )  # torch's counter leaves these out
    assert {o.symbol for o in diagram.operations} >= {"top 2", "softmax"}
    with torch.no_grad():
        torch.testing.assert_close(compile_diagram(diagram, module)(ids(2, 10)), outputs[0], atol=1e-5, rtol=1e-5)


def test_data_dependent_routing_is_followed_with_real_numbers() -> None:
    module = hugging_face("mixtral")
    module.set_experts_implementation("eager")
    diagram = circuit(module, ids(2, 10))
    assert diagram.complete
    assert any("asks for values" in n and "drawn is the branch" in n for n in diagram.notes)
    assert total(diagram) == counted(module, (ids(2, 10),))[0]
    assert not circuit(module, ids(2, 10), branches="stop").complete


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        y = x * 2
        if x.sum() > 0:
            return y + 1
        return y - 1


def test_a_branch_on_values_is_named_by_its_line() -> None:
    up, down = circuit(Branching(), torch.ones(3, 4)), circuit(Branching(), -torch.ones(3, 4))
    assert (up.operations[-1].symbol, down.operations[-1].symbol) == ("+", "−")
    assert any("test_circuit_derivation.py" in n and "if x.sum() > 0" in n and n.endswith("True") for n in up.notes)
    stopped = circuit(Branching(), torch.ones(3, 4), branches="stop")
    assert not stopped.complete
    assert stopped.operations[0].symbol == "×"
    assert "if x.sum() > 0" in stopped.notes[-1]


def test_masks_by_value_are_followed() -> None:
    class Masked(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x[x > 0] * 2

    diagram = circuit(Masked(), torch.tensor([1.0, -1.0, 2.0]))
    assert diagram.axes[diagram.arrays[diagram.outputs[0]].axes[0]].size == 2


class Writing(nn.Module):
    """Writes into views, of views, and reads the base again."""

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        y = x.clone()
        y[:, 0] = 3
        y.view(-1).add_(1)
        flat = torch.relu_(y)
        flat[1:].mul_(2)
        left, right = flat.chunk(2, 1)
        right.sub_(left)
        turned = y.t()
        turned[0] += 1
        return y + y.sum(), turned, left


@pytest.mark.parametrize("simplified", [False, True])
def test_writing_in_place_is_never_silently_wrong(simplified: bool) -> None:
    x = numbers(4, 6)
    given = compile_diagram(circuit(Writing(), x, simplified=simplified), {})(x.clone())
    for a, b in zip(given, Writing()(x.clone()), strict=True):
        torch.testing.assert_close(a, b)


def test_in_place_shares_the_storage() -> None:
    diagram = circuit(nn.Sequential(nn.Linear(3, 4), nn.ReLU(inplace=True)), (2, 3))
    linear, relu = (diagram.arrays[o.outputs[0]] for o in diagram.operations)
    assert relu.storage == linear.storage
    apart = circuit(nn.Sequential(nn.Linear(3, 4), nn.ReLU()), (2, 3))
    assert len({apart.arrays[o.outputs[0]].storage for o in apart.operations}) == 2


def test_shared_layers_are_drawn_at_both_places() -> None:
    layer = nn.Linear(4, 4)
    diagram = circuit(nn.Sequential(layer, nn.ReLU(), layer), (2, 4))
    assert [o.module for o in kinds(diagram, "linear")] == ["0", "0#1"]
    assert {o.inputs[1] for o in kinds(diagram, "linear")} == {"0.weight"}
    assert any("more than once" in n for n in diagram.notes)
    assert diagram.boxes["0#1"].note == "shared"


def test_sizes_that_the_code_fixes_are_said() -> None:
    class Reads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.place = nn.Parameter(torch.zeros(32, 8))

        def forward(self, x: Tensor) -> Tensor:
            if x.shape[1] > 12:
                x = x[:, :12]
            return x + self.place[: x.shape[1]]

    diagram = circuit(Reads(), (2, 10, 8))
    assert symbol("time") in diagram.symbols()
    assert any("time <= 12" in n or "time < 13" in n for n in diagram.notes)
    fixed = circuit(nn.GRU(5, 6, batch_first=True), (3, 4, 5))
    assert any("time is fixed at 4" in n for n in fixed.notes)


def test_dynamic_sizes_are_chosen_by_name() -> None:
    module = nn.Conv2d(3, 4, 3, padding=1)
    assert set(circuit(module, (2, 3, 8, 9), dynamic=("batch", "y")).symbols()) == {symbol("batch"), symbol("y")}
    assert not circuit(module, (2, 3, 8, 9), dynamic=None).symbols()
    one = circuit(nn.Linear(3, 4), (1, 3))
    assert one.symbols() == {symbol("batch"): 1}
    assert total(one) == 24


def test_the_network_is_left_as_it_was() -> None:
    norm = nn.BatchNorm1d(3)
    before = {k: v.clone() for k, v in norm.state_dict().items()}
    state = torch.get_rng_state()
    circuit(nn.Sequential(norm, nn.Dropout()), (4, 3), training=True)
    assert norm.training
    assert all(torch.equal(before[k], v) for k, v in norm.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())
    assert torch.backends.mha.get_fastpath_enabled()
    assert not norm._forward_hooks


def test_unknown_operators_are_opaque_and_kept() -> None:
    class Solve(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.linalg.inv(x @ x.transpose(-1, -2) + torch.eye(4))

    diagram = circuit(Solve(), (2, 4, 5), axes="batch row column")
    assert kinds(diagram, "opaque")
    assert any("not understood" in n and "inv" in n for n in diagram.notes)


def test_fourier_transforms_come_back_to_their_axis() -> None:
    class Filter(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.fft.irfft(torch.fft.rfft(x) * 2, n=x.shape[-1])

    diagram = circuit(Filter(), (2, 3, 8), axes="batch channel x")
    assert diagram.arrays[diagram.outputs[0]].axes == ("batch", "channel", "x")
    assert "frequency" in diagram.axes


def test_views_that_mix_are_not_guessed() -> None:
    class Mix(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.reshape(x.shape[0], 8, 3)

    diagram = circuit(Mix(), (2, 6, 4), axes="batch left right")
    assert not {"left", "right"} & set(diagram.arrays[diagram.outputs[0]].axes)
    back = nn.Sequential(nn.Flatten(1), nn.Unflatten(1, (6, 4)))
    assert circuit(back, (2, 6, 4), axes="batch left right").arrays
    assert circuit(back, (2, 6, 4), axes="batch left right").operations == ()


def test_specimens_and_networks_of_ours() -> None:
    net = nissl.load("efficientnet-lite0")
    diagram = circuit(net)
    assert diagram.name == "efficientnet-lite0"
    assert symbol("batch") in diagram.symbols()
    assert total(diagram) == counted(net.module, (torch.zeros(2, 3, 224, 224),))[0]
    with torch.no_grad():
        x = numbers(3, 3, 224, 224)
        torch.testing.assert_close(compile_diagram(diagram, net.module)(x), net.module(x), atol=1e-4, rtol=1e-4)
    neuron = circuit(nissl.nn.LeakyMemoryNeuron(3, 2), (2, 6, 3))
    assert neuron.operations


def test_thousands_of_modules() -> None:
    class Deep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(nn.Sequential(nn.Linear(4, 4), nn.ReLU()) for _ in range(300))

        def forward(self, x: Tensor) -> Tensor:
            for layer in self.layers:
                x = x + layer(x)
            return x

    diagram = circuit(Deep(), (2, 4))
    assert len(diagram.operations) == 900
    assert set(diagram.axes) == {"batch", "feature", "feature'"}


def test_inputs_are_made_where_it_is_known_what_they_are() -> None:
    assert circuit(nn.Linear(3, 4)).arrays["input"].axes == ("batch", "feature")
    assert circuit(nn.Conv2d(3, 4, 3)).arrays["input"].axes == ("batch", "channel", "y", "x")
    assert circuit(nn.Sequential(nn.Embedding(9, 4))).arrays["input"].axes == ("batch", "time")
    assert circuit(hugging_face("gpt2")).arrays["input_ids"].axes == ("batch", "time")
    assert "the input is made up" in circuit(nn.Linear(3, 4)).notes


def test_bad_input_is_refused() -> None:
    with pytest.raises(InputError, match="inputs="):
        circuit(Branching())
    with pytest.raises(ModelError, match="cannot be run on input \\(2, 5\\)"):
        circuit(nn.Linear(3, 4), (2, 5))
    with pytest.raises(InputError, match="branches"):
        circuit(nn.Linear(3, 4), branches="both")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="2 different names"):
        circuit(nn.Linear(3, 4), (2, 3), axes="batch batch")
    with pytest.raises(UnknownNameError, match="input"):
        circuit(nn.Linear(3, 4), (2, 3), axes={"imput": "batch feature"})
    with pytest.raises(InputError, match="at least one index"):
        circuit(nn.Linear(3, 4), (0, 3))
    with pytest.raises(InputError, match="no tensor"):
        circuit(nn.Linear(3, 4), {"input": "text"})


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.randoms(use_true_random=False))
def test_refining_two_shapes_covers_both(shape: list[int], random) -> None:
    after = list(shape)
    for _ in range(3):  # bind two neighbours, or unbind one
        k = random.randrange(len(after))
        if k + 1 < len(after) and random.random() < 0.7:
            after[k : k + 2] = [after[k] * after[k + 1]]
    pieces = refine(shape, after)
    assert pieces is not None
    for which, sizes in ((1, shape), (2, after)):
        found = [1] * len(sizes)
        for piece in pieces:
            found[piece[which]] *= piece[0]
        assert found == sizes


def test_an_axis_never_merges_with_its_copy() -> None:
    identity = Identity()
    time, key, other = (identity.new(4) for _ in range(3))
    copy = identity.copied(time)
    identity.union(key, copy)
    identity.union(time, other)
    identity.union(other, key)
    assert not identity.same(time, key)
    assert identity.find(key)[0] == identity.find(time)[0]
    assert identity.same(identity.copied(other), key)


class Program(nn.Module):
    """Some operators in a row, each on one of the arrays so far."""

    def __init__(self, steps: list[tuple[int, tuple]], width: int) -> None:
        super().__init__()
        self.steps, self.mix = steps, nn.Linear(width, width)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        pool = [x]
        for source, step in self.steps:
            pool.append(self.run(pool, pool[source], *step))
        return tuple(pool[-3:])

    def run(self, pool: list[Tensor], x: Tensor, name: str, *rest: int) -> Tensor:
        at = rest[0] if rest else 0
        match name:
            case "permute":
                return x.permute(*rest)
            case "flatten":
                return x.flatten(at, at + 1)
            case "unflatten":
                return x.unflatten(at, (2, x.shape[at] // 2))
            case "unsqueeze":
                return x.unsqueeze(at)
            case "gram":
                return x @ x.transpose(-1, -2) / 10
            case "softmax":
                return x.softmax(at)
            case "mix":
                return self.mix(x)
            case "add":
                return x + pool[at]
            case "select":
                return x.select(at, 0)
            case "mean":
                return x.mean(at, keepdim=bool(rest[1]))
            case "copy":
                return x.unsqueeze(at).expand(*x.shape[:at], 3, *x.shape[at:])
        return x.tanh()


def drawn_program(random, shape: tuple[int, ...]) -> Program:
    """A program that runs on an array of this shape."""
    program, pool = Program([], shape[-1]), [torch.zeros(shape)]
    for _ in range(12):
        source = random.randrange(max(0, len(pool) - 3), len(pool))
        x = pool[source]
        n, at = x.ndim, random.randrange(x.ndim)
        steps: list[tuple] = [
            ("tanh",),
            ("softmax", at),
            ("add", random.choice([i for i, p in enumerate(pool) if p.shape == x.shape])),
        ]
        steps += [("permute", *random.sample(range(n), n)), ("flatten", random.randrange(n - 1))] if n > 1 else []
        steps += [("unflatten", at)] if n < 6 and x.shape[at] % 2 == 0 and x.shape[at] > 2 else []
        steps += [("unsqueeze", at), ("copy", at)] if n < 6 else []
        steps += [("gram",)] if 2 <= n < 6 else []
        steps += [("mix",)] if x.shape[-1] == shape[-1] else []
        steps += [("select", at), ("mean", at, random.randrange(2))] if n > 2 else []
        step = random.choice(steps)
        program.steps.append((source, step))
        pool.append(program.run(pool, x, *step))
    return program


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    st.randoms(use_true_random=False),
    st.sampled_from([(2, 4, 4), (4, 4, 4), (2, 3, 8, 4), (2, 2, 2, 2), (3, 4, 5), (1, 4, 4), (2, 6, 1)]),
)
def test_any_program_of_views_and_products_runs_as_drawn(random, shape: tuple[int, ...]) -> None:
    program, x = drawn_program(random, shape), numbers(*shape)
    raw, simple = circuit(program, x, simplified=False), circuit(program, x)
    assert total(raw) == total(simple)
    with torch.no_grad():
        for diagram in (raw, simple):
            for a, b in zip(compile_diagram(diagram, program)(x), program(x), strict=True):
                torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def test_steps_run_as_the_operators_they_hold() -> None:
    steps = [(("a",), "aten.arange.default", (4,), ()), (("b",), "aten.mul.Tensor", ("%a", "%a"), ())]
    assert run_steps(steps, "b").tolist() == [0, 1, 4, 9]


def test_the_mode_that_is_drawn_is_said() -> None:
    net = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 2))
    assert any("evaluation mode" in n and "dropout" in n for n in circuit(net, (2, 4)).notes)
    assert not any("evaluation mode" in n for n in circuit(net.eval(), (2, 4)).notes)
    trained = circuit(net, (2, 4), training=True)
    assert "dropout" in [o.symbol for o in trained.operations]
    assert not any("not understood" in n for n in trained.notes)


def test_what_is_no_network_is_refused_at_once() -> None:
    with pytest.raises(InputError, match=r"give an instance, Linear\(\.\.\.\)"):
        circuit(nn.Linear)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="int is no network"):
        circuit(3)  # type: ignore[arg-type]


def test_a_convolution_of_one_tap_runs_along_space() -> None:
    for kernel, acted in ((1, ()), (3, ("y", "x")), ((1, 3), ("x",))):
        pad = (0, 1) if isinstance(kernel, tuple) else kernel // 2
        found = circuit(nn.Conv2d(3, 4, kernel, padding=pad), (2, 3, 8, 9)).operations[0]
        assert found.acted == acted
        assert set(found.broadcast) == {"batch", "y", "x"} - set(acted)
