"""Spike trains of neurons whose coupling switches with a hidden state: Poisson GLM networks with known truth."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import xarray as xr
from jaxtyping import Float, Int

from nissl.errors import InputError, unknown

Link = Literal["softplus", "sigmoid", "exp", "log1p-softplus", "identity"]

# From the linear predictor to the expected count in a bin.
LINKS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "softplus": lambda z: np.logaddexp(0, z),
    "sigmoid": lambda z: 0.5 * (1 + np.tanh(0.5 * z)),
    "exp": np.exp,
    "log1p-softplus": lambda z: np.log1p(np.logaddexp(0, z)),
    "identity": lambda z: z,
}
KINDS = ("inhibitory", "none", "excitatory")
# Expected counts a bin above this mean that excitation feeds on itself.
_RUNAWAY = 1e4


def lag_kernel(basis: str, lags: int) -> Float[np.ndarray, " lag"]:
    """How much each of the last `lags` bins counts; positive, sums to one, the most recent bin first.

    "exponential": proportional to exp(-k) for the k-th bin back; "raised-cosine": one bump over the lags; "uniform".

    Examples
    --------
    >>> lag_kernel("exponential", 5).round(3).tolist()
    [0.636, 0.234, 0.086, 0.032, 0.012]
    """
    if lags < 1:
        raise InputError(f"lags={lags}; give 1 or more bins")
    k = np.arange(1, lags + 1)
    shapes = {
        "exponential": np.exp(-k.astype(float)),
        "raised-cosine": 1 - np.cos(2 * np.pi * k / (lags + 1)),
        "uniform": np.ones(lags),
    }
    if basis not in shapes:
        raise unknown("basis", basis, [*shapes, "learned"])
    return shapes[basis] / shapes[basis].sum()


def simulate_switching_glm(
    *,
    n_units: int = 12,
    n_states: int = 3,
    n_trials: int = 7,
    n_bins: int = 600,
    bin_width: float = 0.02,
    lags: int = 5,
    link: Link = "sigmoid",
    connected: float = 0.2,
    changed: float = 0.1,
    concentration: float | None = None,
    self_coupling: bool = False,
    strength: tuple[float, float] = (0.75, 5.25),
    bias: tuple[float, float] = (-0.05, 0.05),
    stay: float = 0.98,
    epoch_bins: int | None = None,
    preference: float = 0.9,
    seed: int = 0,
) -> xr.Dataset:
    """A recording of neurons that excite and inhibit one another, by a scaffold that each hidden state modulates.

    A hidden Markov chain picks the coupling of each bin. All states share a scaffold of excitatory and inhibitory connections;
    each state redraws the kind of some of them, and has strengths of its own. Counts are Poisson with mean
    link(bias + sum over sources of weight times filtered past counts).

    Parameters
    ----------
    n_units, n_states, n_trials, n_bins
        Sizes; a trial is a chain of its own that starts in a random state.
    bin_width
        Seconds a bin.
    lags
        Bins of the past that count, weighted by `lag_kernel("exponential", lags)`.
    link
        From the linear predictor to counts a bin.
    connected
        Share of pairs with a connection in the scaffold, half of them excitatory.
    changed
        Share of pairs whose kind a state draws anew.
    concentration
        Where given, each pair has a prior over kinds of its own, from a Dirichlet distribution with mean (connected/2, 1 - connected,
        connected/2) and this concentration, from which each state draws its kind; `changed` is not used then, and the scaffold is the
        prior's most probable kind.
    self_coupling
        Whether units are coupled to themselves as to the others.
    strength, bias
        Range of the uniform strengths of the connections, for each state, and of the biases, shared by the states.
    stay
        Probability of staying in a state from one bin to the next.
    epoch_bins
        Bins of a task epoch: epochs of this length follow in random order, as many kinds as states, and in epoch e a chain that
        leaves its state goes to state e with probability `preference`. No epochs where None.
    seed
        Another seed draws other couplings and other spikes.

    Returns
    -------
    xr.Dataset
        `spikes (trial, time, unit)` counts, `state (trial, time)`, with `epoch (trial, time)` where asked for, and the truth:
        `weights (state, target, source)`, `adjacency (target, source)` in -1, 0, 1 (the scaffold), `state_adjacency (state, target,
        source)`, `bias (unit)`, `transition (state, next_state)`, `kernel (lag)`.

    Raises
    ------
    InputError
        Sizes below one, shares outside 0 to 1, a range upside down, or rates that run away.

    Examples
    --------
    >>> data = simulate_switching_glm(n_trials=2, n_bins=100)
    >>> dict(data.spikes.sizes), sorted(set(data.adjacency.values.ravel().tolist()))
    ({'trial': 2, 'time': 100, 'unit': 12}, [-1, 0, 1])

    References
    ----------
    Li et al., "One-hot Generalized Linear Model for Switching Brain State Discovery", ICLR 2024, section 4.1.
    """
    _check_sizes(
        n_units=n_units, n_states=n_states, n_trials=n_trials, n_bins=n_bins, lags=lags, epoch_bins=epoch_bins or 1
    )
    _check_shares(connected=connected, changed=changed, stay=stay, preference=preference)
    for name, (low, high) in {"strength": strength, "bias": bias}.items():
        if not low <= high:
            raise InputError(f"{name}=({low}, {high}); give the lower end first")
    if link not in LINKS:
        raise unknown("link", link, LINKS)
    rng = np.random.default_rng(seed)
    scaffold, kinds = _couplings(n_units, n_states, connected, changed, concentration, self_coupling, rng)
    weights = kinds * rng.uniform(*strength, size=kinds.shape)
    biases = rng.uniform(*bias, size=n_units)
    epoch = None if epoch_bins is None else _epochs(n_trials, n_bins, epoch_bins, n_states, rng)
    transition = _transitions(n_states, stay, preference if epoch is not None else None)
    state = _states(transition, epoch, n_trials, n_bins, rng)
    kernel = lag_kernel("exponential", lags)
    filters = weights[..., None] * kernel
    spikes = run_network(state, filters, np.broadcast_to(biases, (n_states, n_units)), link, rng=rng)
    return _labelled(spikes, state, epoch, weights, scaffold, kinds, biases, transition, kernel, bin_width, link)


def run_network(
    state: Int[np.ndarray, "trial time"],
    filters: Float[np.ndarray, "state target source lag"],
    bias: Float[np.ndarray, "state unit"],
    link: Link,
    *,
    observations: Literal["poisson", "bernoulli", "gaussian"] = "poisson",
    noise: Float[np.ndarray, "state unit"] | None = None,
    drive: Float[np.ndarray, "trial time unit"] | None = None,
    rng: np.random.Generator,
) -> Float[np.ndarray, "trial time unit"]:
    """Activity of a network with given states and couplings, bin by bin for all trials at once.

    `filters[s, i, j, k]` is the effect of source j's activity k + 1 bins ago on target i in state s; `drive` is added to the linear
    predictor; `noise` is the standard deviation of Gaussian observations.

    Raises
    ------
    InputError
        The expected count runs away: excitation feeds on itself.

    Examples
    --------
    >>> quiet = run_network(np.zeros((1, 4), int), np.zeros((1, 2, 2, 3)), np.full((1, 2), -50.0), "exp", rng=np.random.default_rng(0))
    >>> quiet.sum()
    np.float64(0.0)
    """
    trials, length = state.shape
    states, units, _, lags = filters.shape
    # Filters of all states in one matrix (past, state * target): one product a bin.
    mixing = filters.transpose(3, 2, 0, 1).reshape(lags * units, states * units)
    padded = np.zeros((trials, lags + length, units))  # silence before the start
    each = np.arange(trials)
    for t in range(length):
        past = padded[:, t : t + lags][:, ::-1].reshape(trials, lags * units)
        predictor = (past @ mixing).reshape(trials, states, units)[each, state[:, t]] + bias[state[:, t]]
        if drive is not None:
            predictor = predictor + drive[:, t]
        mean = LINKS[link](predictor)
        if not np.isfinite(mean).all() or np.abs(mean).max() > _RUNAWAY:
            raise InputError(
                f"activity runs away in bin {t}: a mean above {_RUNAWAY:g}; use a link that saturates, weaker or more inhibitory coupling"
            )
        if observations == "poisson":
            padded[:, lags + t] = rng.poisson(mean)
        elif observations == "bernoulli":
            padded[:, lags + t] = rng.random(mean.shape) < mean
        else:
            scale = 1.0 if noise is None else noise[state[:, t]]
            padded[:, lags + t] = mean + scale * rng.normal(size=mean.shape)
    return padded[:, lags:]


def _check_sizes(**sizes: int) -> None:
    for name, size in sizes.items():
        if int(size) != size or size < 1:
            raise InputError(f"{name}={size}; give a whole number of 1 or more")


def _check_shares(**shares: float) -> None:
    for name, share in shares.items():
        if not 0 <= share <= 1:
            raise InputError(f"{name}={share}; give a share from 0 to 1")


def _couplings(
    n: int,
    states: int,
    connected: float,
    changed: float,
    concentration: float | None,
    diagonal: bool,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Kinds of connection (-1, 0, 1): the scaffold (target, source), and each state's (state, target, source)."""
    pairs = np.ones((n, n), dtype=bool) if diagonal else ~np.eye(n, dtype=bool)
    shares = np.array([connected / 2, 1 - connected, connected / 2])
    if concentration is None:
        count = round(connected * pairs.sum())
        dealt = np.zeros(pairs.sum(), dtype=int)
        dealt[: count // 2], dealt[count // 2 : count] = -1, 1
        scaffold = np.zeros((n, n), dtype=int)
        scaffold[pairs] = rng.permutation(dealt)
        anew = rng.random((states, n, n)) < changed
        kinds = np.where(anew, rng.choice([-1, 0, 1], p=shares, size=(states, n, n)), scaffold)
    else:
        prior = rng.dirichlet(np.maximum(shares, 1e-6) * concentration, size=(n, n))
        scaffold = prior.argmax(-1) - 1
        kinds = (rng.random((states, n, n, 1)) >= prior.cumsum(-1)[..., :-1]).sum(-1) - 1
    return scaffold * pairs, kinds * pairs


def _epochs(trials: int, length: int, epoch_bins: int, kinds: int, rng: np.random.Generator) -> np.ndarray:
    """Labels (trial, time): epochs of equal length, each kind equally often up to one, in random order over the recording."""
    each = -(-length // epoch_bins)
    order = rng.permutation(np.arange(trials * each) % kinds)
    return order.reshape(trials, each).repeat(epoch_bins, axis=1)[:, :length]


def _transitions(states: int, stay: float, preference: float | None) -> np.ndarray:
    """(epoch, state, next state) with a preferred state an epoch, or (1, state, next state) without."""
    if states == 1:
        return np.ones((1, 1, 1))
    if preference is None:
        away = (1 - stay) / (states - 1)
        return (np.full((states, states), away) + np.eye(states) * (stay - away))[None]
    target = np.full((states, states), (1 - preference) / (states - 1))
    np.fill_diagonal(target, preference)
    return stay * np.eye(states) + (1 - stay) * target[:, None, :]


def _states(
    transition: np.ndarray, epoch: np.ndarray | None, trials: int, length: int, rng: np.random.Generator
) -> Int[np.ndarray, "trial time"]:
    label = np.zeros((trials, length), dtype=int) if epoch is None else epoch
    below = transition.cumsum(-1)[..., :-1]
    uniform = rng.random((length, trials, 1))
    state = np.empty((trials, length), dtype=int)
    state[:, 0] = rng.integers(transition.shape[-1], size=trials)
    for t in range(1, length):
        state[:, t] = (uniform[t] >= below[label[:, t], state[:, t - 1]]).sum(-1)
    return state


def _labelled(
    spikes: np.ndarray,
    state: np.ndarray,
    epoch: np.ndarray | None,
    weights: np.ndarray,
    scaffold: np.ndarray,
    kinds: np.ndarray,
    biases: np.ndarray,
    transition: np.ndarray,
    kernel: np.ndarray,
    bin_width: float,
    link: str,
) -> xr.Dataset:
    names = [f"unit {i}" for i in range(spikes.shape[-1])]
    variables = {
        "spikes": (("trial", "time", "unit"), spikes, {"quantity": "count", "bin_width": bin_width}),
        "state": (("trial", "time"), state),
        "weights": (("state", "target", "source"), weights),
        "adjacency": (("target", "source"), scaffold),
        "state_adjacency": (("state", "target", "source"), kinds),
        "bias": (("unit",), biases),
        "transition": (("state", "next_state"), transition[0])
        if epoch is None
        else (("epoch_kind", "state", "next_state"), transition),
        "kernel": (("lag",), kernel),
    }
    if epoch is not None:
        variables["epoch"] = (("trial", "time"), epoch)
    coords = {"time": (np.arange(spikes.shape[1]) + 0.5) * bin_width, "unit": names, "target": names, "source": names}
    attrs = {"rate": 1 / bin_width, "source": "simulated: switching Poisson GLM", "link": link}
    return xr.Dataset(variables, coords=coords, attrs=attrs)
