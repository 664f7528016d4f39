"""Learners that live on a stream: run them, alone or many together, and find the rate that would have been best."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from torch import nn
from tqdm.auto import tqdm

from nissl.errors import InputError
from nissl.learning._regulation import DECISIONS
from nissl.learning._stream_runs import HeldOut, Job, Log, alone, groups, together
from nissl.learning.adaptation import late_accuracy
from nissl.learning.concept_shift import ConceptShift, labelled
from nissl.learning.homeostasis import HomeostaticSGD

Networks = nn.Module | Sequence[nn.Module]
Streams = ConceptShift | Sequence[ConceptShift]


def elu_classifier(
    n_inputs: int, n_classes: int, hidden: Sequence[int] = (80, 60), *, seed: int = 0, dtype: torch.dtype | None = None
) -> nn.Sequential:
    """The paper's classifier: dense layers with ELU between them, weights from N(0, 2 / inputs), biases from N(0, 1).

    Examples
    --------
    >>> elu_classifier(64, 10)(torch.zeros(1, 64)).shape
    torch.Size([1, 10])
    """
    generator = torch.Generator().manual_seed(seed)
    widths = [n_inputs, *hidden, n_classes]
    if min(widths) < 1:
        raise InputError(f"widths {widths}; each at least 1")
    parts: list[nn.Module] = []
    for before, after in pairwise(widths):
        # Created without drawing from the global generator.
        layer = nn.Linear(before, after, device="meta", dtype=dtype).to_empty(device="cpu")
        with torch.no_grad():
            layer.weight.copy_(torch.randn(after, before, generator=generator) * (2 / before) ** 0.5)
            layer.bias.copy_(torch.randn(after, generator=generator))
        parts += [layer, nn.ELU()]
    return nn.Sequential(*parts[:-1])


def run_stream(
    models: Networks,
    streams: Streams,
    controllers: torch.optim.Optimizer | Sequence[torch.optim.Optimizer],
    *,
    batch_size: int = 10,
    held_out: tuple[Any, Any] | None = None,
    held_out_every: int | None = None,
    progress: bool = True,
) -> xr.Dataset:
    """Let networks learn from a stream, each minibatch once, and note how right they were before they learnt from it.

    Several networks of one architecture with `HomeostaticSGD` (seeds, rates, policies) are trained in the same operations. One network, and whatever
    cannot be combined, goes through an ordinary training loop: other optimisers, different architectures, dropout, buffers, hooks, a loss of one's
    own. Both give the same results up to rounding.

    Parameters
    ----------
    models
        A network, or several. They are trained in place.
    streams
        One for all, or one each; of the same length and number of classes.
    controllers
        One each, made with its network: `HomeostaticSGD`, or any torch optimiser to compare with. A run begins with an empty memory.
    batch_size
        Samples a minibatch; swaps must not fall inside one.
    held_out
        Inputs and targets (labels as they were at the beginning of the stream) on which networks are tested, with labels as of then.
    held_out_every
        Samples between these tests, a multiple of the batch size; one pass through the stream's data set, about, where None.
    progress
        A bar with a rate; only in a terminal.

    Returns
    -------
    Dataset
        ``accuracy (run, batch)``, share of the minibatch that was right before the update; ``lr``, the rate of the update; ``decision``, one of
        "not asked", "left", "taken"; ``imagined_gain``, NaN where nothing was imagined; ``swap_sample``, ``swap_run``, ``swap_first``, ``swap_second``
        `(event)`; ``diverged (run)``: its logits ceased to be numbers, and it was right no more; ``held_out_accuracy (run, test)`` where asked for.
        Coordinates: `sample`, how many went before the minibatch; `season (run, batch)` where there are seasons. A single network has no `run` axis.

    Raises
    ------
    InputError
        Numbers of networks, streams and controllers that do not agree, a controller of another network, streams of different length, a network without a
        logit for each class, a stream so short that the learner would never be asked.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(0, 3, 300)
    >>> x = (np.eye(3)[y] + 0.3 * rng.standard_normal((300, 3))).astype(np.float32)
    >>> stream = ConceptShift(x, y, n_samples=2000, every=500)
    >>> model = elu_classifier(3, 3, (8,))
    >>> result = run_stream(model, stream, HomeostaticSGD(model, lr=0.01, step_size=0.01))
    >>> result.sizes["batch"], result.swap_sample.values.tolist()
    (200, [500, 1000, 1500])
    """
    jobs = _jobs(models, streams, controllers, batch_size)
    n = jobs[0].stream.n_samples
    test = _held_out(held_out, held_out_every, jobs[0].stream, batch_size)
    log = Log(len(jobs), -(-n // batch_size))
    with tqdm(total=n * len(jobs), unit="sample", disable=None if progress else True) as bar:
        for rows in groups(jobs):
            if len(rows) == 1:
                alone(jobs[rows[0]], rows[0], log, batch_size, test, bar)
            else:
                together(jobs, rows, log, batch_size, test, bar)
    result = _result(log, jobs, batch_size, test)
    return _without_run(result) if isinstance(models, nn.Module) else result


def best_constant_rate(
    models: Networks,
    streams: Streams,
    rates: Sequence[float] | Float[np.ndarray, "rate"] | None = None,
    *,
    start: float = 0.5,
    batch_size: int = 10,
    progress: bool = True,
) -> xr.Dataset:
    """The constant rate that would have been best on these very streams: what nobody knows beforehand, as a mark to measure controllers by.

    Parameters
    ----------
    models, streams
        As for `run_stream`; copies of the networks are trained, they themselves stay as they are.
    rates
        To choose from; nine from 0.0001 to 1, equally spaced in logarithm, where None.
    start
        Accuracy is the mean from this fraction of the stream on.

    Returns
    -------
    Dataset
        ``accuracy (rate, run)``; ``best``, the rate of the highest mean over runs, and ``best_accuracy (run)`` with it. The attribute `edge` says whether the best one
        is the first or last of the grid, which then should be wider.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(0, 3, 300)
    >>> x = (np.eye(3)[y] + 0.1 * rng.standard_normal((300, 3))).astype(np.float32)
    >>> stream = ConceptShift(x, y, n_samples=1000, every=250)
    >>> found = best_constant_rate(elu_classifier(3, 3, (8,)), stream, [1e-6, 0.1])
    >>> float(found.best)
    0.1
    """
    grid = np.asarray(np.geomspace(1e-4, 1, 9) if rates is None else rates, dtype=float)
    if grid.ndim != 1 or len(grid) < 1 or not np.isfinite(grid).all() or (grid <= 0).any():
        raise InputError(f"rates {grid.tolist()}; give positive numbers")
    grid = np.sort(grid)
    nets = [models] if isinstance(models, nn.Module) else list(models)
    ways = [streams] * len(nets) if isinstance(streams, ConceptShift) else list(streams)
    copies = [copy.deepcopy(net) for _ in grid for net in nets]
    constant = {"policy": "constant", "floor": float(grid[0]) / 2}
    masters = [
        HomeostaticSGD(net, float(rate), **constant)  # type: ignore[arg-type]
        for net, rate in zip(copies, np.repeat(grid, len(nets)), strict=True)
    ]
    result = run_stream(copies, ways * len(grid), masters, batch_size=batch_size, progress=progress)
    accuracy = late_accuracy(result, start=start).to_numpy().reshape(len(grid), len(nets))
    chosen = int(accuracy.mean(1).argmax())
    return xr.Dataset(
        {
            "accuracy": (("rate", "run"), accuracy),
            "best": ((), grid[chosen]),
            "best_accuracy": (("run",), accuracy[chosen]),
        },
        coords={"rate": grid},
        attrs={"edge": bool(chosen in (0, len(grid) - 1))},
    )


def _jobs(models: Networks, streams: Streams, controllers: Any, batch_size: int) -> list[Job]:
    """The runs, checked before any of them begins."""
    nets = [models] if isinstance(models, nn.Module) else list(models)
    ways = [streams] * len(nets) if isinstance(streams, ConceptShift) else list(streams)
    masters = [controllers] if isinstance(controllers, torch.optim.Optimizer) else list(controllers)
    if not nets or not len(nets) == len(ways) == len(masters):
        raise InputError(f"{len(nets)} networks, {len(ways)} streams, {len(masters)} controllers; give as many of each")
    if len({(s.n_samples, s.n_classes) for s in ways}) > 1:
        raise InputError("streams of different length or number of classes; run them one after another")
    if len({id(net) for net in nets}) < len(nets):
        raise InputError("the same network twice; give each run a copy of its own")
    for stream in {id(s): s for s in ways}.values():
        stream.check_batch_size(batch_size)
    jobs = [Job(*row) for row in zip(nets, ways, masters, strict=True)]
    for i, job in enumerate(jobs):
        _check(job, f"network {i}" if len(jobs) > 1 else "the network")
    return jobs


def _check(job: Job, name: str) -> None:
    model, stream, controller = job
    own = {id(p) for p in model.parameters()}
    if not own or {id(p) for group in controller.param_groups for p in group["params"]} - own:
        raise InputError(f"the controller of {name} was made with other weights; make one for each network")
    like = next(model.parameters())
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            logits = model(stream.inputs[:1].to(like))
    except (RuntimeError, TypeError, ValueError) as error:
        raise InputError(f"{name} cannot read inputs of shape {tuple(stream.inputs.shape[1:])}: {error}") from None
    finally:
        model.train(training)
    if not isinstance(logits, torch.Tensor) or logits.ndim != 2 or logits.shape[1] < stream.n_classes:
        shape = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise InputError(
            f"{name} gives {shape} for one sample; wanted: logits (1, class) of at least {stream.n_classes} classes"
        )
    if isinstance(controller, HomeostaticSGD):
        controller.settings.signs(logits.shape[1])
        settings = controller.settings
        if settings.policy != "constant" and max(settings.memory, settings.interval) >= stream.n_samples:
            raise InputError(
                f"memory {settings.memory} and interval {settings.interval} in a stream of {stream.n_samples} samples: {name} would never be asked"
            )


def _held_out(data: Any, every: int | None, stream: ConceptShift, batch_size: int) -> HeldOut | None:
    if data is None:
        if every is not None:
            raise InputError("held_out_every without held_out; give (inputs, targets) to test on")
        return None
    if not isinstance(data, tuple | list) or len(data) != 2:
        raise InputError("held_out; give inputs and targets")
    inputs, labels = labelled(*data)
    stream.relabelled(labels, 0)
    if inputs.shape[1:] != stream.inputs.shape[1:]:
        raise InputError(
            f"held-out inputs of shape {tuple(inputs.shape[1:])}; those of the stream have {tuple(stream.inputs.shape[1:])}"
        )
    step = max(len(stream.labels) // batch_size, 1) * batch_size if every is None else every
    if step < 1 or step % batch_size or step > stream.n_samples:
        raise InputError(f"held_out_every {step}; a multiple of {batch_size} samples, up to {stream.n_samples}")
    return HeldOut(inputs, labels, step)


def _result(log: Log, jobs: Sequence[Job], batch_size: int, test: HeldOut | None) -> xr.Dataset:
    samples = np.arange(log.accuracy.shape[1]) * batch_size
    axes = ("run", "batch")
    swaps = [job.stream.swaps.assign(run=i) for i, job in enumerate(jobs)]
    events = {
        k: np.concatenate([s[k].to_numpy(dtype=int) for s in swaps]) for k in ("sample", "run", "first", "second")
    }
    result = xr.Dataset(
        {
            "accuracy": (axes, log.accuracy),
            "lr": (axes, log.lr),
            "decision": (axes, np.array(DECISIONS)[log.decision]),
            "imagined_gain": (axes, log.gain),
            "diverged": (("run",), log.diverged),
            **{f"swap_{k}": (("event",), v) for k, v in events.items()},
        },
        coords={"sample": ("batch", samples)},
        attrs={"batch_size": batch_size},
    )
    if any(job.stream.season is not None for job in jobs):
        result = result.assign_coords(season=(axes, np.stack([job.stream.season_at(samples) for job in jobs])))
    if test is not None:
        result["held_out_accuracy"] = (("run", "test"), np.array(log.held_out))
        result = result.assign_coords(test_sample=("test", (np.arange(result.sizes["test"]) + 1) * test.every))
    return result


def _without_run(result: xr.Dataset) -> xr.Dataset:
    return result.isel(run=0, drop=True)
