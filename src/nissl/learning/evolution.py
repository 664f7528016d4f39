"""Evolution strategies: learn without a gradient, from how well slightly different copies do."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from jaxtyping import Float
from scipy.stats import rankdata
from sklearn.base import BaseEstimator
from torch import Tensor, nn
from tqdm import tqdm

from nissl.errors import InputError, ModelError
from nissl.learning import checkpoint as checkpoints


class Candidates:
    """Copies of a network with weights of their own, one by one or all at once.

    Iterating gives modules. Called like the network, each candidate answers for its share of the rows: rows are dealt out in order, as
    many to each, so that `nissl.learning.swim(candidates, n_bodies=len(candidates))` lets every one move a body of its own.

    Parameters
    ----------
    module
        The network.
    weights
        For each parameter ``(candidate, ...)``.

    Examples
    --------
    >>> pair = Candidates(nn.Linear(1, 1, bias=False), {"weight": torch.tensor([[[1.0]], [[2.0]]])})
    >>> pair(torch.ones(4, 1))[:, 0].tolist()
    [1.0, 1.0, 2.0, 2.0]
    """

    def __init__(self, module: nn.Module, weights: dict[str, Float[Tensor, "candidate *shape"]]) -> None:
        self.module, self.weights = module, weights
        self._each = torch.func.vmap(lambda own, *inputs: torch.func.functional_call(module, own, inputs))

    def __len__(self) -> int:
        return len(next(iter(self.weights.values())))

    def __iter__(self) -> Iterator[nn.Module]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, i: int) -> nn.Module:
        one = copy.deepcopy(self.module)
        one.load_state_dict({name: w[i] for name, w in self.weights.items()}, strict=False)
        return one

    def __call__(self, *inputs: Float[Tensor, "row ..."]) -> Float[Tensor, "row ..."]:
        """Every candidate's answer to its share of the rows."""
        if len(inputs[0]) % len(self):
            raise InputError(f"{len(inputs[0])} rows cannot be dealt out evenly to {len(self)} candidates")
        like = next(iter(self.weights.values()))
        shares = [x.to(like.device, like.dtype).unflatten(0, (len(self), -1)) for x in inputs]
        with torch.no_grad():
            return self._each(self.weights, *shares).flatten(0, 1)


class Ascent:
    """One search under way: candidates are asked for, and their scores told (`EvolutionStrategies.begin` makes it).

    Attributes
    ----------
    module
        The network, with the weights found so far.
    """

    def __init__(self, module: nn.Module, settings: EvolutionStrategies) -> None:
        self.module = copy.deepcopy(module)
        self._trained = {name: p for name, p in self.module.named_parameters() if p.requires_grad}
        if not self._trained:
            raise InputError(f"{type(module).__name__} has no trainable weight to search over")
        self._population, self._sigma = settings.population, settings.sigma
        self.optimiser = torch.optim.Adam(self._trained.values(), lr=settings.lr, weight_decay=settings.weight_decay)
        self.generator = torch.Generator().manual_seed(settings.seed)
        self._noise: dict[str, Tensor] = {}

    def ask(self) -> Candidates:
        """The candidates of a generation."""
        disturbed = {}
        for name, p in self._trained.items():
            drawn = torch.randn(self._population // 2, *p.shape, generator=self.generator, dtype=torch.float64)
            self._noise[name] = torch.cat([self._sigma * drawn, -self._sigma * drawn]).to(p)
            disturbed[name] = p.detach() + self._noise[name]
        return Candidates(self.module, disturbed)

    def tell(self, scores: Any) -> Float[np.ndarray, "candidate"]:
        """A step uphill, from how well the candidates did; returns the scores as an array."""
        found = np.asarray(scores, dtype=float)
        if not self._noise:
            raise InputError("there are no candidates to score; ask for them first")
        if found.shape != (self._population,):
            raise InputError(f"the fitness function gave shape {found.shape}; {(self._population,)} is needed")
        if not np.isfinite(found).all():
            raise ModelError("a candidate's fitness is NaN or infinite; try a smaller sigma")
        ranks = torch.as_tensor((rankdata(found) - 1) / (self._population - 1) - 0.5)
        for name, p in self._trained.items():
            uphill = torch.tensordot(ranks.to(p), self._noise[name], 1) / (self._population * self._sigma)
            p.grad = -uphill.clamp(-1, 1)
        self._noise = {}
        self.optimiser.step()
        project = getattr(self.module, "project", None)
        if callable(project):
            project()
        return found


Fitness = Callable[[Any, int], Any]


class EvolutionStrategies(BaseEstimator):
    """Natural evolution strategies with ranks, in mirrored pairs (Salimans et al. 2017).

    Parameters
    ----------
    population
        Candidates a generation, an even number: each disturbance is tried in both directions.
    sigma
        Standard deviation of the disturbances of a weight.
    lr, weight_decay
        Of Adam.
    generations
        How many in all, those that a checkpoint holds included.
    together
        The fitness function takes all candidates of a generation at once (`Candidates`), and returns a number each.
    seed
        Of the disturbances, and of what the fitness function is told.
    checkpoint
        A file that is written every `every` generations and at the end. A later fit with the same settings goes on from it, to the bit.
    every
        Generations between checkpoints.
    progress
        Show a bar where standard error is a terminal.

    Attributes
    ----------
    module_
        A copy of the network with the weights that were found.
    history_
        By generation, the `mean`, `best` and `worst` fitness of its candidates.

    Notes
    -----
    Candidates are w + e_k with e_k ~ N(0, sigma^2) and e_{k + n/2} = -e_k. Their fitness f_k is used by rank only, r_k from -1/2 (worst) to 1/2; equals
    share a rank, so that a generation of equals moves nothing. The ascent direction ``sum_k r_k e_k / (n sigma)`` is clipped to [-1, 1] and given to
    Adam. After each step the network's own `project()` is called where it has one, so that weights with a sign stay on their half line.

    References
    ----------
    Salimans et al. (2017), Evolution Strategies as a Scalable Alternative to Reinforcement Learning; Wierstra et al. (2014), Natural
    Evolution Strategies.

    Examples
    --------
    >>> def fitness(module, seed):
    ...     return -(module.weight.item() - 3) ** 2
    >>> search = EvolutionStrategies(population=8, sigma=0.3, lr=0.2, generations=60, weight_decay=0.0, progress=False)
    >>> abs(search.fit(nn.Linear(1, 1, bias=False), fitness).module_.weight.item() - 3) < 0.3
    True
    """

    def __init__(
        self,
        *,
        population: int = 32,
        sigma: float = 0.02,
        lr: float = 0.01,
        weight_decay: float = 0.005,
        generations: int = 100,
        together: bool = False,
        seed: int = 0,
        checkpoint: str | Path | None = None,
        every: int = 10,
        progress: bool = True,
    ) -> None:
        self.population = population
        self.sigma = sigma
        self.lr = lr
        self.weight_decay = weight_decay
        self.generations = generations
        self.together = together
        self.seed = seed
        self.checkpoint = checkpoint
        self.every = every
        self.progress = progress

    def fit(self, module: nn.Module, fitness: Fitness) -> EvolutionStrategies:
        """Search from the network's weights.

        Parameters
        ----------
        module
            Any network; it is left as it is.
        fitness
            ``fitness(module, seed) -> number``, higher is better; with `together`, ``fitness(candidates, seed) -> (candidate,)``. `seed` is a whole number that
            changes with the generation and is the same for all its candidates.

        Raises
        ------
        InputError
            Settings that cannot be, no trainable weight, a fitness of the wrong shape, or a checkpoint from another configuration.
        ModelError
            A fitness that is NaN or infinite.
        """
        ascent = self.begin(module)
        history: list[list[float]] = []
        settings = {
            "module": repr(module), "population": self.population, "sigma": self.sigma, "lr": self.lr,
            "weight_decay": self.weight_decay, "seed": self.seed,
        }  # fmt: skip
        if self.checkpoint is not None and Path(self.checkpoint).exists():
            found = checkpoints.load(self.checkpoint, settings)
            ascent.module.load_state_dict(found["module"])
            ascent.optimiser.load_state_dict(found["optimiser"])
            ascent.generator.set_state(found["generator"])
            history = list(found["history"])
        bar = tqdm(
            total=self.generations, initial=len(history), unit="generation", disable=None if self.progress else True
        )
        with bar:
            for generation in range(len(history), self.generations):
                told = int(torch.randint(2**31, (), generator=ascent.generator))
                candidates = ascent.ask()
                scores = ascent.tell(
                    fitness(candidates, told) if self.together else [fitness(one, told) for one in candidates]
                )
                history.append([float(scores.mean()), float(scores.max()), float(scores.min())])
                bar.update()
                bar.set_postfix(mean=f"{history[-1][0]:.4g}", best=f"{history[-1][1]:.4g}", refresh=False)
                last = generation + 1 == self.generations
                if self.checkpoint is not None and (last or (generation + 1) % self.every == 0):
                    content = {
                        "module": ascent.module.state_dict(), "optimiser": ascent.optimiser.state_dict(),
                        "generator": ascent.generator.get_state(), "history": history,
                    }  # fmt: skip
                    checkpoints.save(self.checkpoint, content, settings)
        self.module_ = ascent.module
        table = np.array(history, dtype=float).reshape(-1, 3)
        self.history_ = xr.Dataset(
            {name: ("generation", table[:, i]) for i, name in enumerate(("mean", "best", "worst"))},
            {"generation": np.arange(len(table))},
        )
        return self

    def begin(self, module: nn.Module) -> Ascent:
        """A search that is driven from outside: ``ascent.tell(scores(ascent.ask()))`` is one generation.

        Parameters
        ----------
        module
            Any network; it is left as it is.

        Raises
        ------
        InputError
            Settings that cannot be, or no trainable weight.

        Examples
        --------
        >>> ascent = EvolutionStrategies(population=4).begin(nn.Linear(2, 1))
        >>> len(ascent.ask()), ascent.tell([1.0, 2.0, 3.0, 4.0]).mean()
        (4, np.float64(2.5))
        """
        self._check()
        return Ascent(module, self)

    def _check(self) -> None:
        if self.population < 2 or self.population % 2:
            raise InputError(
                f"population {self.population}; give an even number from 2, since candidates come in pairs"
            )
        if not (self.sigma > 0 and self.lr > 0 and self.weight_decay >= 0):
            raise InputError(
                f"sigma {self.sigma}, lr {self.lr}, weight_decay {self.weight_decay}; sigma and lr are above 0, weight_decay from 0"
            )
        if self.generations < 1 or self.every < 1:
            raise InputError(f"generations {self.generations}, every {self.every}; give whole numbers from 1")
