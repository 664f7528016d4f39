"""Neural circuit diagrams: they are programs, their wires obey the laws that are drawn, and cost is read off them.

All sizes, seeds and controls are those of the paper's card. Networks are small and of random weights, as none of the claims is
about what a network has learned.
"""

from __future__ import annotations

import re
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from nissl.diagrams import CircuitDiagram, circuit
from nissl.diagrams._sizes import at_example
from nissl.diagrams.architectures import ARCHITECTURES, Architecture, Attention, Block, architecture
from nissl.diagrams.cost import degree
from nissl.diagrams.derivative import backward
from nissl.diagrams.expressions import (
    Expression,
    broadcast,
    contract,
    elementwise,
    linear,
    outer,
    rearrange,
    shape,
    transpose,
    unit,
)
from nissl.diagrams.memory import memory
from nissl.diagrams.program import compile_diagram, tensors_of
from nissl.diagrams.text import to_text
from nissl.evaluation._drawings import drawing_faults
from nissl.evaluation._reading import run_text
from nissl.evaluation._swapping import swapped
from nissl.evaluation._tracking import measured_memory
from nissl.evaluation.diagrams import broadcast_laws, counted_flops, largest_gap
from nissl.papers.harness import Outcome, Paper

PAPER = Paper(
    "neural-circuit-diagrams",
    "Neural Circuit Diagrams: Robust Diagrams for the Communication, Implementation, and Analysis of Deep Learning Architectures",
    "diagrams",
    "https://arxiv.org/abs/2402.05424",
    threads=1,
)
NOT_KNOWN = "not known"
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}
LANGUAGE_MODEL = "language model"


class _LanguageModel(nn.Module):
    """Logits of a small GPT-2, from a config."""

    def __init__(self) -> None:
        super().__init__()
        from transformers import GPT2Config, GPT2LMHeadModel

        self.gpt = GPT2LMHeadModel(GPT2Config(vocab_size=50, n_positions=32, n_embd=16, n_layer=2, n_head=4))

    def forward(self, tokens: Tensor) -> Tensor:
        return self.gpt(tokens, use_cache=False).logits


@lru_cache(maxsize=32)
def _network(name: str, seed: int, dtype: torch.dtype) -> tuple[Architecture, CircuitDiagram]:
    if name == LANGUAGE_MODEL:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            tokens, more = torch.randint(0, 50, (2, 10)), torch.randint(0, 50, (3, 7))
            net = Architecture(_LanguageModel().to(dtype).eval(), (tokens,), (more,), "batch time")
    else:
        net = architecture(name, seed=seed, dtype=dtype)
    return net, _drawn(net.module, net.inputs, net.axes)


def _drawn(module: nn.Module, inputs: Sequence[Tensor], axes: str) -> CircuitDiagram:
    with warnings.catch_warnings():  # torch warns of devices that are not there
        warnings.simplefilter("ignore")
        return circuit(module, tuple(inputs), axes=axes)


def _networks(seed: int, dtype: torch.dtype) -> Iterator[tuple[str, Architecture, CircuitDiagram]]:
    for name in (*ARCHITECTURES, LANGUAGE_MODEL):
        yield name, *_network(name, seed, dtype)


def _gap(run: Callable[..., object], net: Architecture) -> float:
    """Largest difference to the network, at the sizes that were drawn and at others."""
    with torch.no_grad():
        return max(largest_gap([net.module(*x)], [run(*x)]) for x in (net.inputs, net.more))  # type: ignore[list-item]


@PAPER.claim(
    "diagrams correspond to code: derived from a network and compiled from the diagram alone, they compute what it does",
    paper_value="figures 17, 19 to 21 and 26 to 28, drawn by hand",
    threshold="largest gap <= 1e-5 in single and 1e-10 in double precision, also at other batch and time sizes; with two axes of 4 swapped more",
    note="the shipped language model is a GPT-2 of 2 blocks made from a config, with random weights",
)
def _code(seeds: Sequence[int]) -> Outcome:
    gaps = {
        dtype: max(
            _gap(compile_diagram(diagram, net.module), net) for s in seeds for _, net, diagram in _networks(s, dtype)
        )
        for dtype in TOLERANCE
    }
    wrong = []
    for s in seeds:
        net, diagram = _network("multi-head attention", s, torch.float64)
        other = swapped(diagram)  # the first two axes of equal size that one operation makes: 4 heads, 4 of the key
        wrong.append(_gap(compile_diagram(other, net.module), net) if other is not None else 0.0)
    return Outcome(
        {"single": gaps[torch.float32], "double": gaps[torch.float64]},
        {"swapped": min(wrong)},
        all(gaps[d] <= TOLERANCE[d] for d in TOLERANCE) and min(wrong) > TOLERANCE[torch.float32],
        f"{len(ARCHITECTURES) + 1} networks",
    )


@PAPER.claim(
    "broadcasting is indexing before or after: so for every wire drawn past an operation, and for none that it acts on",
    paper_value="figures 10 to 12",
    threshold="along every broadcast axis equal to 1e-6; along every axis acted on unequal for >= 95 % of 20 random inputs",
)
def _broadcasting(seeds: Sequence[int]) -> Outcome:
    along, acted, gaps = [], [], []
    for s in seeds:
        for _, net, diagram in _networks(s, torch.float64):
            laws = broadcast_laws(diagram, net.inputs, parameters=net.module, repeats=20, seed=s)
            mine = laws["role"] == "broadcast"
            along += list(laws[mine]["held"])
            gaps += list(laws[mine]["gap"])
            acted += list(1 - laws[~mine]["held"])
    return Outcome(
        {"share of broadcast axes": float(np.mean(np.array(along) == 1)), "largest gap": max(gaps)},
        {"acted on: unequal at least": min(acted)},
        all(h == 1 for h in along) and min(acted) >= 0.95,
        f"{len(along)} axes drawn past an operation, {len(acted)} acted on",
    )


def _both_ways(f: Expression) -> tuple[Expression, Expression]:
    """`f` and then a product with an array; and the outer product first, `f` broadcast along it, and then the contraction."""
    first = (f + shape("c d")) @ contract("b c, c d -> b d")
    wide = outer("a, e d") @ rearrange("a e d -> e d a") @ broadcast(broadcast(f, "d"), "e")
    later = (wide + unit("e c")) @ contract("e d b c, e c -> b d")
    return first, later


def _bent(f: Expression) -> Expression:
    """A unit bends the input wire: `f` runs along one of its ends, and what comes out meets the array that comes in."""
    return (unit("e a") + shape("b c")) @ (broadcast(f, "e") + shape("b c")) @ contract("e b c, b c -> e") @ shape("e")


@PAPER.claim(
    "linear operations commute, and are transposed by bending their wires",
    paper_value="figure 18",
    threshold="equal to 1e-6 over 20 random maps a -> b c; with tanh after the map unequal in every case",
)
def _linear(seeds: Sequence[int]) -> Outcome:
    sizes = {"a": 5, "b": 3, "c": 4, "d": 6, "e": 4}
    f = linear("a -> b c", "f", a=5, b=3, c=4)
    curved = f @ elementwise(torch.tanh)
    generator = torch.Generator().manual_seed(seeds[0])

    def draw(axes: str) -> Tensor:
        return torch.randn([sizes[a] for a in axes.split()], generator=generator, dtype=torch.float64)

    def run(expression: Expression, *inputs: Tensor, weight: Tensor) -> Tensor:
        free = {a: sizes[a] for a in ("d",) if any(a in t for t in expression.inputs)}
        return compile_diagram(expression.diagram("law", **free))(*inputs, parameters={"f.weight": weight})

    identity = (shape("a", a=5) + unit("a b")) @ contract("a, a b -> b")
    laws: dict[str, list[float]] = {"commutes": [], "bends": [], "unit and inner product": []}
    broken: dict[str, list[float]] = {"tanh commutes": [], "tanh bends": []}
    for _ in range(20):
        weight, x, y, back = draw("b c a"), draw("a"), draw("c d"), draw("b c")
        for g, found, key in ((f, laws, "commutes"), (curved, broken, "tanh commutes")):
            one, other = (run(e, x, y, weight=weight) for e in _both_ways(g))
            found[key].append((one - other).abs().max().item())
        there = run(transpose(f), back, weight=weight)
        for g, found, key in ((f, laws, "bends"), (curved, broken, "tanh bends")):
            gap = (run(_bent(g), back, weight=weight) - there).abs().max().item()
            if g is f:  # and it is the transpose: <f x, y> = <x, f' y>
                gap = max(gap, abs(((run(f, x, weight=weight) * back).sum() - (x * there).sum()).item()))
            found[key].append(gap)
        laws["unit and inner product"].append((compile_diagram(identity.diagram())(x) - x).abs().max().item())
    measured = {k: max(v) for k, v in laws.items()}
    control = {k: min(v) for k, v in broken.items()}
    return Outcome(measured, control, max(measured.values()) <= 1e-6 < min(control.values()))


class _AttentionBlock(nn.Module):
    """Attention and an MLP, without norms: what the card's 135,680 operations belong to."""

    def __init__(self) -> None:
        super().__init__()
        block = Block(16, 4)
        self.attention, self.mlp = block.attention, block.mlp

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(x)
        return x + self.mlp(x)


class _Grouped(nn.Module):
    """A grouped convolution written as one convolution a group, with the weights of another."""

    def __init__(self, like: nn.Conv2d) -> None:
        super().__init__()
        self.like = like

    def forward(self, x: Tensor) -> Tensor:
        parts = zip(x.chunk(self.like.groups, 1), self.like.weight.chunk(self.like.groups), strict=True)
        return torch.cat([nn.functional.conv2d(p, w, padding=self.like.padding) for p, w in parts], 1)  # type: ignore[arg-type]


def _counted_back(module: nn.Module, x: Tensor) -> int:
    """What torch's counter counts on the way back to the weights."""
    with sdpa_kernel(SDPBackend.MATH):
        out = module(x)
        out = out[0] if isinstance(out, tuple) else out
        with FlopCounterMode(display=False) as counter:
            out.sum().backward()
    return int(counter.get_total_flops())


@PAPER.claim(
    "time and memory can be read off: operations and bytes, exactly",
    paper_value=NOT_KNOWN,
    threshold="equal to torch's counter as whole numbers, forward (1,680; 13,824; 135,680; 8,190) and backward; peak 262,144 and saved 462,848 bytes",
    note="torch's counter takes the gradient of a grouped convolution's weights for that of a full one, as many times too much as there are groups; its count of one convolution a group is taken for the truth there",
)
def _cost(seeds: Sequence[int]) -> Outcome:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeds[0])
        conv = nn.Conv2d(3, 6, 3, groups=3, padding=1, bias=False)
        nets: dict[str, tuple[nn.Module, Tensor, str, int]] = {
            "linear": (nn.Linear(8, 5), torch.randn(3, 7, 8), "batch time model", 1680),
            "convolution": (conv, torch.randn(2, 3, 8, 8), "batch channel y x", 13824),
            "attention block": (_AttentionBlock(), torch.randn(2, 10, 16), "batch time model", 135680),
            "GRU": (nn.GRU(8, 5, batch_first=True), torch.randn(3, 7, 8), "batch time model", 8190),
        }
        mlp = nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10))
        pictures = torch.randn(64, 784)
    wrong = 0
    for module, x, axes, known in nets.values():
        diagram = _drawn(module, (x,), axes)
        own = at_example(diagram, diagram.flops())
        wrong += not own == known == counted_flops(module, [x])
        weights = [n for n, _ in module.named_parameters()]
        back = backward(diagram, wrt=weights)
        truth = _counted_back(_Grouped(conv) if module is conv else module, x)
        wrong += at_example(back, back.flops()) != truth
    found = memory(_drawn(mlp, (pictures,), "batch pixel")).example
    peak, saved = measured_memory(mlp, [pictures])
    wrong += not found["peak"] == peak == 262144
    wrong += not found["saved"] == saved == 462848
    module, x, axes, _ = nets["linear"]
    diagram = _drawn(module, (x,), axes)
    forgotten = diagram.flops().subs({s: 1 for s in diagram.symbols() if str(s) == "time"})
    off = at_example(diagram, diagram.flops()) / at_example(diagram, forgotten)
    grouped = f"grouped convolution, backward: torch's counter says {_counted_back(conv, nets['convolution'][1])}"
    return Outcome(
        {"numbers that differ": int(wrong), "of": 2 * len(nets) + 2},
        {"factor without the wire of time (7)": off},
        wrong == 0 and off == 7,
        f"{grouped}, of one convolution a group {_counted_back(_Grouped(conv), nets['convolution'][1])}",
    )


def _exponent(module: nn.Module, draw: Callable[[int], tuple[Tensor, ...]]) -> float:
    """Slope of log processor time over log tokens, of each length the fastest of 7."""
    lengths = (256, 512, 1024, 2048)
    inputs = {n: draw(n) for n in lengths}
    best = dict.fromkeys(lengths, np.inf)
    with torch.no_grad():
        for n in lengths:
            module(*inputs[n])
            for _ in range(7):
                begin = time.thread_time()  # of this thread only, whatever else the machine does
                module(*inputs[n])
                best[n] = min(best[n], time.thread_time() - begin)
    return float(np.polyfit(np.log(lengths), np.log([best[n] for n in lengths]), 1)[0])


@PAPER.claim(
    "scaling is visible: attention is quadratic in time, the MLP linear",
    paper_value=NOT_KNOWN,
    threshold="degrees 2 and 1; measured exponent of the attention core from 256 to 2,048 tokens within 0.3 of 2",
    note="one sequence, keys of 64, on one core; where others use the machine at the same time, arrays of 16 MB slow down more than small ones, and the slope has been seen to rise to 2.8",
)
def _scaling(seeds: Sequence[int]) -> Outcome:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seeds[0])
        block = _AttentionBlock().eval()
        diagram = _drawn(block, (torch.randn(2, 10, 16),), "batch time model")

        def tokens(n: int) -> tuple[Tensor, ...]:
            return tuple(torch.randn(1, n, 64) for _ in range(3))

        measured = _exponent(Attention(), tokens)
        flat = _exponent(
            nn.Sequential(nn.Linear(64, 256), nn.GELU(), nn.Linear(256, 64)), lambda n: (torch.randn(1, n, 64),)
        )
    degrees = {part: degree(diagram, "time", module=part) for part in ("attention", "mlp")}
    return Outcome(
        {"degree of attention": degrees["attention"], "exponent of attention": measured},
        {"degree of the MLP": degrees["mlp"], "exponent of the MLP": flat},
        degrees == {"attention": 2, "mlp": 1} and abs(measured - 2) <= 0.3,
    )


def _from_text(net: Architecture, diagram: CircuitDiagram) -> Callable[..., Tensor]:
    text, weights = to_text(diagram), tensors_of(net.module)
    return lambda *inputs: run_text(text, inputs, weights)[0]


@PAPER.claim(
    "axes and arrangement are both kept: the drawing can be read back, and the network built again from its text",
    paper_value=NOT_KNOWN,
    threshold="one label a wire change, dashed lines = strips - 1 in every column, every weight's shape written; run from the text alone: gap <= 1e-5 and 1e-10",
    note="the reader of the text shares no code with what writes or compiles diagrams",
)
def _kept(seeds: Sequence[int]) -> Outcome:
    faults: dict[str, int] = {}
    for _, net, diagram in _networks(seeds[0], torch.float32):
        svg = diagram.to_svg(depth=100, fold=False, width=10**9)  # every operation, in one row
        for key, n in drawing_faults(svg, diagram, tensors_of(net.module)).items():
            faults[key] = faults.get(key, 0) + n
    gaps = {
        dtype: max(_gap(_from_text(net, d), net) for s in seeds for _, net, d in _networks(s, dtype))
        for dtype in TOLERANCE
    }
    net, diagram = _network("multi-head attention", seeds[0], torch.float64)
    text = to_text(diagram)
    # The control: in the first product of activations, scores of every time against every time, the two are swapped.
    equation = re.search(r":: contraction (.+) -> (.+) (\S+) (\S+)\n", text)
    assert equation is not None
    sums, before, a, b = equation.groups()
    other = text.replace(equation[0], f":: contraction {sums} -> {before} {b} {a}\n", 1)
    with torch.no_grad():
        wrong = largest_gap([net.module(*net.inputs)], run_text(other, net.inputs, tensors_of(net.module)))
    return Outcome(
        {
            **{f"faults in {k}": v for k, v in faults.items()},
            "single": gaps[torch.float32],
            "double": gaps[torch.float64],
        },
        {"with an equation changed": wrong},
        not any(faults.values())
        and all(gaps[d] <= TOLERANCE[d] for d in TOLERANCE)
        and wrong > TOLERANCE[torch.float32],
    )
