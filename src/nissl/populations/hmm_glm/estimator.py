"""`HMMGLM`: a hidden Markov model whose states are couplings between neurons."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import pandas as pd
import torch
import xarray as xr
from jaxtyping import Float
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from nissl.errors import InputError, unknown
from nissl.populations import chains
from nissl.populations.hmm_glm.design import Design, build
from nissl.populations.hmm_glm.emissions import resolve_link
from nissl.populations.hmm_glm.fitting import Settings, fit_model
from nissl.populations.hmm_glm.inputs import Counts, check_for_fit, matched_units, read_counts, read_covariates
from nissl.populations.hmm_glm.m_step import pass_over
from nissl.populations.hmm_glm.results import OPTIONAL, label, living_states
from nissl.recordings.simulate.switching_glm import lag_kernel, run_network

if TYPE_CHECKING:
    from nissl.populations.hmm_glm.baselines import Comparison

PRIORS = ("one-hot", "gaussian", None)
SELF_COUPLINGS = ("zero", "as-others", "free", "free-shared")
KIND_PRIORS = ("categorical", "kl", "gumbel")


class HMMGLM(BaseEstimator):
    """States of a recording as couplings between its neurons: a Poisson GLM whose weights switch with a hidden Markov chain.

    In state s unit i has in bin t the mean count link(b_si + sum_j W_s[i, j] c_tj), where c_tj is unit j's past, filtered by a
    kernel over `lags` bins (the bin itself left out). The states' weights share a prior: none, a Gaussian around their mean, or
    one-hot, where every connection is inhibitory, absent or excitatory by a prior common to all states, times a strength of each
    state. What is common to the states is consistent structure; it is no anatomy, as common input looks like coupling.

    Parameters
    ----------
    n_states
        How many states. A range or list, or None for 1 to 6, takes the number by held-out likelihood (see `select_states`).
    prior
        "one-hot", "gaussian" or None.
    observations
        "poisson" counts, "bernoulli" for 0 and 1, "gaussian" for traces.
    lags
        Bins of the past.
    basis
        Kernel over the past: "exponential", "raised-cosine", "uniform", positive numbers of your own (lag,), or "learned".
    link
        "softplus" (default for counts), "exp", "sigmoid" (at most one spike expected a bin) or "log1p-softplus"; "sigmoid" for Bernoulli,
        "identity" for Gaussian observations.
    coupling
        False leaves the coupling out: a hidden Markov model of constant rates, the baseline.
    self_coupling
        "zero"; "as-others"; "free": a kernel of its own over the lags in each state; "free-shared": one for all states.
    shared_bias
        Whether all states have one bias a unit, so that states can differ in coupling only.
    prior_sd
        Standard deviation of weights around their mean over states, for the Gaussian prior (and the start of the one-hot fit).
    kind_prior
        Form of the one-hot prior. "categorical": cross-entropy to the shared prior and an entropy penalty that drives each kind to a corner;
        "kl": the divergence from the shared prior, without that penalty; "gumbel": the Gumbel-softmax density of the paper.
    temperature
        Of the Gumbel-softmax samples of kinds.
    prior_weight
        Weight of the one-hot log prior against the log likelihood, which is a sum over bins.
    start
        "gaussian" starts the one-hot fit from a Gaussian one; "scratch" from noise, which often merges states.
    ridge
        Precision of a weak Gaussian prior on every weight around zero (0.01: a standard deviation of ten): without any, weights of rare
        combinations have no finite maximum. 0 turns it off.
    transition_pseudocount
        Added to the expected number of each step.
    n_restarts
        Starts from different segmentations, run side by side; the one with the highest log posterior is kept.
    max_iter, tol
        Of EM; it stops when the log posterior rises by less than `tol` of itself.
    rounds, steps, learning_rate
        Of the one-hot fit: rounds of one E-step and `steps` Adam steps.
    min_occupancy
        States with a smaller share of bins have died in EM: they are dropped, with a warning.
    device
        "cpu", "cuda" or "auto".
    seed
        Of the starts and samples.
    progress
        False hides the bar; None shows it in a terminal.

    Attributes
    ----------
    n_states_ : int
        States that are alive, ordered by occupancy, most frequent first.
    weights_ : DataArray (state, target, source)
        From source to target; zero where a one-hot connection is absent.
    mean_weights_ : DataArray (target, source)
        Mean over states.
    global_adjacency_ : DataArray (target, source, kind)
        One-hot only: probability of inhibitory, none, excitatory in the prior shared by the states.
    adjacency_ : DataArray (state, target, source)
        One-hot only: kind in each state, -1, 0 or 1.
    strengths_ : DataArray (state, target, source)
        One-hot only: positive strengths, also of connections that are absent in a state.
    bias_ : DataArray (state, unit)
    transition_ : DataArray (state, next_state)
    dwell_times_ : DataArray (state)
        Expected seconds from entering a state to leaving it.
    occupancy_ : DataArray (state)
        Share of bins.
    kernel_ : DataArray (lag)
    own_kernels_ : DataArray (state, unit, lag)
        With a free self-coupling.
    covariate_weights_ : DataArray (state, unit, covariate)
    noise_ : DataArray (state, unit)
        Standard deviations, for Gaussian observations.
    log_likelihood_ : float
        Of the training data, as `score` gives it.
    history_ : ndarray (iteration,)
        Log posterior of EM (of the Gaussian start where the prior is one-hot); it never falls.
    restarts_ : DataFrame
        Log marginal of each restart, and which was kept.
    dead_states_ : int
        How many states died.
    selection_ : StateSelection
        Where `n_states` was a choice.

    Examples
    --------
    >>> from nissl.recordings.simulate import simulate_switching_glm
    >>> data = simulate_switching_glm(n_units=6, n_states=2, n_trials=3, n_bins=300)
    >>> model = HMMGLM(n_states=2, prior="gaussian", link="sigmoid", n_restarts=2).fit(data)
    >>> dict(model.weights_.sizes), dict(model.predict_proba(data).sizes)
    ({'state': 2, 'target': 6, 'source': 6}, {'trial': 3, 'time': 300, 'state': 2})

    References
    ----------
    Li, Kim, Rodgers, Choi and Wu, "One-hot Generalized Linear Model for Switching Brain State Discovery",
    ICLR 2024 (equations 1 to 9); Escola et al., "Hidden Markov models for the stimulus-response relationships of multistate neural
    systems", Neural Computation 2011.
    """

    weights_: xr.DataArray
    mean_weights_: xr.DataArray
    global_adjacency_: xr.DataArray
    adjacency_: xr.DataArray
    strengths_: xr.DataArray
    bias_: xr.DataArray
    transition_: xr.DataArray
    dwell_times_: xr.DataArray
    occupancy_: xr.DataArray
    kernel_: xr.DataArray
    own_kernels_: xr.DataArray
    covariate_weights_: xr.DataArray
    noise_: xr.DataArray

    def __init__(
        self,
        *,
        n_states: int | Iterable[int] | None = 3,
        prior: Literal["one-hot", "gaussian"] | None = "one-hot",
        observations: Literal["poisson", "bernoulli", "gaussian"] = "poisson",
        lags: int = 5,
        basis: str | Float[np.ndarray, " lag"] = "exponential",
        link: str | None = None,
        coupling: bool = True,
        self_coupling: Literal["zero", "as-others", "free", "free-shared"] = "zero",
        shared_bias: bool = False,
        prior_sd: float = 1 / 3,
        kind_prior: Literal["categorical", "kl", "gumbel"] = "categorical",
        temperature: float = 0.5,
        prior_weight: float = 1.0,
        start: Literal["gaussian", "scratch"] = "gaussian",
        ridge: float = 0.01,
        transition_pseudocount: float = 1e-3,
        n_restarts: int = 5,
        max_iter: int = 100,
        tol: float = 1e-5,
        rounds: int = 30,
        steps: int = 15,
        learning_rate: float = 0.05,
        min_occupancy: float = 0.002,
        device: str = "cpu",
        seed: int = 0,
        progress: bool | None = None,
    ) -> None:
        self.n_states = n_states
        self.prior = prior
        self.observations = observations
        self.lags = lags
        self.basis = basis
        self.link = link
        self.coupling = coupling
        self.self_coupling = self_coupling
        self.shared_bias = shared_bias
        self.prior_sd = prior_sd
        self.kind_prior = kind_prior
        self.temperature = temperature
        self.prior_weight = prior_weight
        self.start = start
        self.ridge = ridge
        self.transition_pseudocount = transition_pseudocount
        self.n_restarts = n_restarts
        self.max_iter = max_iter
        self.tol = tol
        self.rounds = rounds
        self.steps = steps
        self.learning_rate = learning_rate
        self.min_occupancy = min_occupancy
        self.device = device
        self.seed = seed
        self.progress = progress

    def fit(self, spikes: Any, y: None = None, *, covariates: Any = None) -> HMMGLM:
        """Fit to counts (trial, time, unit) or (time, unit), NaN where missing; trials may end early (NaN, or a list of arrays).

        Parameters
        ----------
        spikes
            numpy, torch, DataArray, a Dataset with `spikes`, or a list of (time, unit).
        y
            Not used.
        covariates
            (trial, time, covariate): stimuli or behaviour that drive the units, with weights of each state.

        Raises
        ------
        InputError, UnknownNameError
            Settings that are not allowed; negative or broken counts, values other than 0 and 1 for Bernoulli observations; silent,
            constant or duplicated units; trials shorter than the lags; more states than bins.
        """
        settings = self._settings()
        counts = read_counts(spikes, self.observations)
        given, names = read_covariates(covariates, counts)
        n_states = self._chosen_states(counts, covariates)
        check_for_fit(counts, self.observations, len(settings.kernel), n_states, self.coupling)
        self._fill = np.nanmean(counts.values, axis=(0, 1))
        self.unit_names_, self.covariate_names_, self.bin_width_ = counts.names, names, counts.bin_width
        self.link_ = settings.link
        design = self._design(counts, given, settings.kernel, keep_past=settings.learned)
        fitted = fit_model(design, settings, n_states, counts.values.shape[2], len(names))
        alive, self.dead_states_ = living_states(fitted.gamma, self.min_occupancy)
        self.n_states_ = len(alive)
        self._parameters, learned = label(fitted, alive, settings, counts.names, names, counts.bin_width)
        for name in OPTIONAL:
            self.__dict__.pop(name, None)
        self.__dict__.update(learned)
        self._layout = settings.layout(self.n_states_, len(counts.names), len(names))
        self.history_ = fitted.history
        self.restarts_ = pd.DataFrame(
            {
                "log_marginal": fitted.by_restart / max(design.n_spikes, 1),
                "kept": np.arange(len(fitted.by_restart)) == fitted.kept,
            }
        ).rename_axis("restart")
        self.log_likelihood_ = self._log_marginals(counts, given).sum() / max(design.n_spikes, 1)
        return self

    def predict(self, spikes: Any, *, covariates: Any = None) -> xr.DataArray:
        """The most probable path of states (Viterbi): integers (trial, time), -1 after a trial's end."""
        counts, table, transition = self._table(spikes, covariates)
        path, _ = chains.viterbi(table[0], transition, lengths=counts.lengths)
        return self._by_bin(path.cpu().numpy(), counts, ())

    def predict_proba(self, spikes: Any, *, covariates: Any = None) -> xr.DataArray:
        """Probability of each state in each bin given all bins of its trial: (trial, time, state), NaN after a trial's end."""
        counts, table, transition = self._table(spikes, covariates)
        found = chains.forward_backward(table[0], transition, lengths=counts.lengths)
        return self._by_bin(found.probability.cpu().numpy(), counts, ("state",))

    def score(self, spikes: Any, y: None = None, *, covariates: Any = None) -> float:
        """Log marginal likelihood a spike, in nats (a value, for Gaussian observations): higher is better."""
        counts = self._matched(spikes)
        given, _ = read_covariates(covariates, counts, self.covariate_names_)
        return float(self._log_marginals(counts, given).sum() / self._n_spikes(counts))

    def score_trials(self, spikes: Any, *, covariates: Any = None) -> xr.DataArray:
        """Log marginal likelihood (trial,) in nats, not divided by anything."""
        counts = self._matched(spikes)
        given, _ = read_covariates(covariates, counts, self.covariate_names_)
        return xr.DataArray(
            self._log_marginals(counts, given), dims="trial", name="log marginal", attrs={"units": "nats"}
        )

    def sample(self, n_trials: int = 1, n_bins: int = 1000, *, covariates: Any = None, seed: int = 0) -> xr.Dataset:
        """A recording drawn from the model: `spikes (trial, time, unit)` and `state (trial, time)`.

        Raises
        ------
        InputError
            The network runs away (an exponential or softplus link with strong excitation), or covariates of another size.
        """
        check_is_fitted(self, "weights_")
        rng = np.random.default_rng(seed)
        state = chains.sample_chain(self.transition_.values, n_bins, n_chains=n_trials, seed=rng)
        filters = self.weights_.values[..., None] * self.kernel_.values
        if hasattr(self, "own_kernels_"):
            each = np.arange(len(self.unit_names_))
            filters = filters.copy()
            filters[:, each, each] += self.own_kernels_.values
        drive = None
        if self.covariate_names_:
            if np.shape(covariates) != (n_trials, n_bins, len(self.covariate_names_)):
                raise InputError(
                    f"covariates of shape {np.shape(covariates)}; give ({n_trials}, {n_bins}, {len(self.covariate_names_)}), as the model was fitted with them"
                )
            drive = np.einsum(
                "btv,btnv->btn", np.asarray(covariates, dtype=float), self.covariate_weights_.values[state]
            )
        noise = self.noise_.values if hasattr(self, "noise_") else None
        spikes = run_network(
            state,
            filters,
            self.bias_.values,
            cast("Any", self.link_),
            observations=cast("Any", self.observations),
            noise=noise,
            drive=drive,
            rng=rng,
        )
        coords = {"time": (np.arange(n_bins) + 0.5) * self.bin_width_, "unit": self.unit_names_}
        attrs = {"bin_width": self.bin_width_, "quantity": "count" if self.observations != "gaussian" else "activity"}
        return xr.Dataset(
            {"spikes": (("trial", "time", "unit"), spikes, attrs), "state": (("trial", "time"), state)},
            coords=coords,
            attrs={"rate": 1 / self.bin_width_, "source": "drawn from a fitted HMMGLM"},
        )

    def select_states(
        self, spikes: Any, candidates: Iterable[int] = range(1, 7), *, folds: int = 3, covariates: Any = None
    ) -> Any:
        """How many states: held-out likelihood over the numbers of `candidates`, with occupancy; see `select_states`."""
        from nissl.populations.hmm_glm.selection import select_states

        return select_states(self, spikes, candidates, folds=folds, covariates=covariates)

    def compare(self, train: Any, test: Any, **options: Any) -> Comparison:
        """Held-out likelihood beside that of simpler models; see `compare_hmm_glm`."""
        from nissl.populations.hmm_glm.baselines import compare_hmm_glm

        return compare_hmm_glm(self, train, test, **options)

    def _settings(self) -> Settings:
        for name, value, allowed in (
            ("prior", self.prior, PRIORS),
            ("self_coupling", self.self_coupling, SELF_COUPLINGS),
            ("kind_prior", self.kind_prior, KIND_PRIORS),
            ("start", self.start, ("gaussian", "scratch")),
        ):
            if value not in allowed:
                raise unknown(name, value, map(str, allowed))
        for name in ("prior_sd", "temperature", "learning_rate"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name}={getattr(self, name)}; give a number above 0")
        for name in ("ridge", "transition_pseudocount", "tol", "prior_weight", "min_occupancy"):
            if not getattr(self, name) >= 0:
                raise InputError(f"{name}={getattr(self, name)}; give 0 or more")
        for name in ("n_restarts", "max_iter", "rounds", "steps", "lags"):
            if int(getattr(self, name)) != getattr(self, name) or getattr(self, name) < 1:
                raise InputError(f"{name}={getattr(self, name)}; give a whole number of 1 or more")
        kernel, learned = self._kernel()
        device = self.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        return Settings(
            prior=self.prior if self.coupling else None,
            observations=self.observations,
            link=resolve_link(self.observations, self.link),
            kernel=kernel,
            learned=learned,
            coupling=self.coupling,
            self_coupling=self.self_coupling if self.coupling else "zero",
            shared_bias=self.shared_bias,
            prior_sd=self.prior_sd,
            kind_prior=self.kind_prior,
            temperature=self.temperature,
            prior_weight=self.prior_weight,
            scratch=self.start == "scratch",
            ridge=self.ridge,
            pseudocount=self.transition_pseudocount,
            n_restarts=self.n_restarts,
            max_iter=self.max_iter,
            tol=self.tol,
            rounds=self.rounds,
            steps=self.steps,
            learning_rate=self.learning_rate,
            device=torch.device(device),
            seed=self.seed,
            progress=self.progress,
        )

    def _kernel(self) -> tuple[np.ndarray, bool]:
        if isinstance(self.basis, str):
            learned = self.basis == "learned"
            return lag_kernel("exponential" if learned else self.basis, self.lags), learned and self.coupling
        kernel = np.asarray(self.basis, dtype=float)
        if kernel.shape != (self.lags,) or not np.isfinite(kernel).all() or (kernel < 0).any() or kernel.sum() == 0:
            raise InputError(
                f"a basis of shape {kernel.shape}; give a name, or {self.lags} numbers of 0 or more, one a lag"
            )
        return kernel / kernel.sum(), False

    def _chosen_states(self, counts: Counts, covariates: Any) -> int:
        if isinstance(self.n_states, int | np.integer):
            if self.n_states < 1:
                raise InputError(f"n_states={self.n_states}; give 1 or more, or a range to choose from")
            return int(self.n_states)
        candidates = range(1, 7) if self.n_states is None else list(self.n_states)
        self.selection_ = self.select_states(counts, candidates, covariates=covariates)
        return self.selection_.chosen

    def _design(
        self, counts: Counts, covariates: np.ndarray | None, kernel: np.ndarray, *, keep_past: bool = False
    ) -> Design:
        return build(
            counts.values,
            counts.lengths,
            kernel,
            observations=self.observations,
            coupling=self.coupling,
            own_kernel=self.coupling and self.self_coupling.startswith("free"),
            fill=self._fill,
            covariates=covariates,
            keep_past=keep_past,
            device=self._settings().device,
        )

    def _matched(self, spikes: Any) -> Counts:
        check_is_fitted(self, "weights_")
        return matched_units(read_counts(spikes, self.observations), self.unit_names_)

    def _by_row(self, counts: Counts, covariates: np.ndarray | None) -> tuple[Design, torch.Tensor, torch.Tensor]:
        design = self._design(counts, covariates, self.kernel_.values)
        on = design.counts.device
        parameters = self._parameters
        variance = None if parameters.variance is None else parameters.variance.to(on)
        by_row = pass_over(design, parameters.theta.to(on), self._layout, variance=variance).by_row
        return design, by_row, parameters.log_transition.to(on)

    def _table(self, spikes: Any, covariates: Any) -> tuple[Counts, torch.Tensor, torch.Tensor]:
        counts = self._matched(spikes)
        given, _ = read_covariates(covariates, counts, self.covariate_names_)
        design, by_row, transition = self._by_row(counts, given)
        return counts, design.table(by_row), transition[0]

    def _log_marginals(self, counts: Counts, covariates: np.ndarray | None) -> np.ndarray:
        design, by_row, transition = self._by_row(counts, covariates)
        table = design.table(by_row)
        return chains.log_marginal(table[0], transition[0], lengths=counts.lengths).cpu().numpy()

    def _n_spikes(self, counts: Counts) -> float:
        n = float(np.isfinite(counts.values).sum() if self.observations == "gaussian" else np.nansum(counts.values))
        if n == 0:
            raise InputError(
                "a recording without a single spike has no likelihood a spike; give trials with spikes, or use score_trials"
            )
        return n

    def _by_bin(self, values: np.ndarray, counts: Counts, more: tuple[str, ...]) -> xr.DataArray:
        coords = {k: counts.spikes[k] for k in ("trial", "time") if k in counts.spikes.coords}
        out = xr.DataArray(values, dims=("trial", "time", *more), coords=coords)
        return out.isel(trial=0, drop=True) if counts.single else out
