"""A 48-block GPT-2 as a circuit diagram: derived, drawn, drawn again, and its cost read off; beside torch's export and counter, and torchview."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable

import torch
from timing import table
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import GPT2Config, GPT2LMHeadModel

from nissl.diagrams import circuit
from nissl.diagrams._sizes import at_example
from nissl.diagrams.derivative import backward
from nissl.diagrams.drawing import draw
from nissl.diagrams.memory import memory
from nissl.diagrams.program import compile_diagram

BLOCKS, WIDTH, TIME = 48, 64, 32


class Logits(nn.Module):
    """A GPT-2 that gives its logits alone."""

    def __init__(self, blocks: int) -> None:
        super().__init__()
        config = GPT2Config(
            vocab_size=100, n_positions=64, n_embd=WIDTH, n_layer=blocks, n_head=4, bos_token_id=0, eos_token_id=0
        )
        self.gpt = GPT2LMHeadModel(config).eval()

    def forward(self, tokens: Tensor) -> Tensor:
        return self.gpt(tokens, use_cache=False).logits


def timed(job: Callable[[], object], rounds: int = 3) -> tuple[float, object]:
    """Fastest of a few, the first among them: a drawing is asked for once."""
    best, result = float("inf"), None
    for _ in range(rounds):
        begin = time.perf_counter()
        result = job()
        best = min(best, time.perf_counter() - begin)
    return best, result


def counted(net: nn.Module, tokens: Tensor) -> int:
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        net(tokens)
    return counter.get_total_flops()


def main() -> str:
    warnings.filterwarnings("ignore")
    torch.manual_seed(0)
    net, tokens = Logits(BLOCKS), torch.randint(0, 100, (2, TIME))
    circuit(Logits(1), tokens, axes="batch time")  # what is imported once
    times: dict[str, float] = {}
    times["derived"], diagram = timed(lambda: circuit(net, tokens, axes="batch time"))
    times["derived and drawn"], _ = timed(lambda: draw(net, tokens, axes="batch time", fresh=True))
    times["drawn again, nothing having changed"], picture = timed(lambda: draw(net, tokens, axes="batch time"))
    times["operations read off the diagram"], own = timed(lambda: at_example(diagram, diagram.flops()))
    times["memory read off the diagram"], _ = timed(lambda: memory(diagram))
    times["diagram of the way back"], _ = timed(lambda: backward(diagram))
    times["torch.export"], _ = timed(lambda: torch.export.export(net, (tokens,)), 1)
    times["FlopCounterMode"], truth = timed(lambda: counted(net, tokens))
    notes = [
        f"{len(diagram.operations)} operations, a picture of {len(picture) / 1e3:.0f} kB; operations {own:,}, counted {truth:,}."
    ]
    try:
        import torchview

        times["torchview, graph without a picture"], _ = timed(
            lambda: torchview.draw_graph(net, input_data=tokens, depth=6, device="cpu"), 1
        )
    except ImportError:
        notes.append("torchview is not installed.")
    return (
        table(f"A GPT-2 of {BLOCKS} blocks as a circuit diagram", times, "derived and drawn", " ".join(notes))
        + programs()
    )


def programs() -> str:
    """A compiled diagram beside the network that it is from."""
    net, tokens = Logits(4), torch.randint(0, 100, (2, TIME))
    program = compile_diagram(circuit(net, tokens, axes="batch time"), net)
    with torch.no_grad():
        times = {
            name: timed(lambda f=f: f(tokens), 9)[0]
            for name, f in {"network": net, "compiled from its diagram": program}.items()
        }
    return "\n" + table("A diagram run, 4 blocks", times, "network")


if __name__ == "__main__":
    print(main())
