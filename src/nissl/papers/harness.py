"""Papers as lists of claims, each measured when it is run, against a control."""

from __future__ import annotations

import importlib
import pkgutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from nissl.errors import NisslError, unknown


@dataclass(frozen=True)
class Outcome:
    """What a claim's measurement gave.

    Attributes
    ----------
    measured, control
        The effect, and the same quantity without the information that should matter: numbers, or a few named numbers.
    holds
        Whether the threshold is met.
    note
        What a reader should know of this run.
    """

    measured: Any
    control: Any
    holds: bool
    note: str = ""


@dataclass(frozen=True)
class Claim:
    """A statement of a paper in a form that can be measured here.

    Attributes
    ----------
    name
        The statement.
    measure
        From seeds to an outcome.
    paper_value, threshold
        The paper's figure, and what must be met here.
    seeds
        How many seeds it averages over.
    expected
        False only where the note says why it does not hold at this size.
    note
        The reason, or what differs from the paper.
    """

    name: str
    measure: Callable[[Sequence[int]], Outcome]
    paper_value: str
    threshold: str
    seeds: int = 1
    expected: bool = True
    note: str = ""


@dataclass(frozen=True)
class Paper:
    """A paper, the room its method lives in, and its claims.

    Attributes
    ----------
    slug, title, room, source
        How it is called, where its method lives, and where it was published.
    claims
        Its claims.
    threads
        How many threads torch uses while they are measured; None leaves that to torch. Small networks are faster with one:
        threads that share a small product mostly wait for each other.

    Examples
    --------
    >>> paper = Paper("demo", "A demonstration", "activity", "nowhere")
    >>> @paper.claim("one is more than zero", paper_value="1 > 0", threshold="measured > control")
    ... def _(seeds):
    ...     return Outcome(1.0, 0.0, True)
    >>> next(paper.run(seed=0))["holds"]
    True
    """

    slug: str
    title: str
    room: str
    source: str
    claims: list[Claim] = field(default_factory=list)
    threads: int | None = None

    def claim(
        self, name: str, *, paper_value: str, threshold: str, seeds: int = 1, expected: bool = True, note: str = ""
    ) -> Callable[[Callable[[Sequence[int]], Outcome]], Callable[[Sequence[int]], Outcome]]:
        """Register a function from seeds to an `Outcome` as a claim of this paper."""

        def register(measure: Callable[[Sequence[int]], Outcome]) -> Callable[[Sequence[int]], Outcome]:
            self.claims.append(Claim(name, measure, paper_value, threshold, seeds, expected, note))
            return measure

        return register

    def run(self, seed: int = 0) -> Iterator[dict[str, Any]]:
        """Measure every claim; a measurement that fails is a claim that does not hold, with the error as its note."""
        for claim in self.claims:
            seeds = [1000 * seed + i for i in range(claim.seeds)]
            begin = time.perf_counter()
            try:
                with _threads(self.threads):
                    outcome = claim.measure(seeds)
            except NisslError as error:
                outcome = Outcome(None, None, False, f"could not be measured: {error}")
            yield {
                "paper": self.slug,
                "claim": claim.name,
                "paper_value": claim.paper_value,
                "measured": _rounded(outcome.measured),
                "control": _rounded(outcome.control),
                "threshold": claim.threshold,
                "holds": bool(outcome.holds),
                "expected": claim.expected,
                "note": "; ".join(n for n in (claim.note, outcome.note) if n),
                "seeds": seeds,
                "seconds": round(time.perf_counter() - begin, 2),
            }


@lru_cache
def papers() -> dict[str, Paper]:
    """All papers by slug: every module of this package that defines `PAPER`.

    Examples
    --------
    >>> "grad-cam" in papers()
    True
    """
    import nissl.papers as package

    found = {}
    for info in pkgutil.iter_modules(package.__path__):
        if info.name != "harness":
            paper = importlib.import_module(f"nissl.papers.{info.name}").PAPER
            found[paper.slug] = paper
    return found


def reproduce(slugs: Iterable[str] | None = None, *, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Measure the claims of papers, one after another.

    Parameters
    ----------
    slugs
        Which papers; all where None.
    seed
        Another seed draws other data and trains other networks.

    Yields
    ------
    dict
        paper, claim, paper_value, measured, control, threshold, holds, expected, note, seeds, seconds.

    Raises
    ------
    UnknownNameError
        No such paper; the message lists the nearest. Raised before anything is measured.
    """
    known = papers()
    chosen = list(known) if slugs is None else list(slugs)
    for slug in chosen:
        if slug not in known:
            raise unknown("paper", slug, known)
    return (result for slug in chosen for result in known[slug].run(seed))


@contextmanager
def _threads(number: int | None) -> Iterator[None]:
    if number is None:
        yield
        return
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _rounded(v) for k, v in value.items()}
    if value is None or isinstance(value, str | bool):
        return value
    return float(f"{float(value):.4g}")
