"""The harness, and that the papers' claims are well formed. The claims themselves are measured by `nissl reproduce`."""

from __future__ import annotations

import numpy as np
import pytest

from nissl.errors import InputError, UnknownNameError
from nissl.papers import Outcome, Paper, papers, reproduce
from nissl.papers import grad_cam as paper


def test_every_paper_is_found_and_complete() -> None:
    for slug, found in papers().items():
        assert slug == found.slug
        assert found.claims
        assert len({c.name for c in found.claims}) == len(found.claims)
        assert all(c.expected or c.note for c in found.claims), "an expected failure needs its reason"


def test_seeds_differ_from_run_to_run_and_figures_are_plain() -> None:
    made = Paper("made-up", "t", "r", "s")
    made.claim("a", paper_value="1", threshold="2", seeds=2)(
        lambda seeds: Outcome({"x": np.float32(1 / 3)}, np.int64(2), np.bool_(True))
    )
    first, second = (next(made.run(seed=s)) for s in (0, 1))
    assert not set(first["seeds"]) & set(second["seeds"])
    assert first["measured"] == {"x": 0.3333}
    assert first["holds"] is True


def test_a_measurement_that_fails_is_a_claim_that_does_not_hold() -> None:
    made = Paper("made-up", "t", "r", "s")

    @made.claim("a", paper_value="1", threshold="2", note="always said")
    def _(seeds: list[int]) -> Outcome:
        raise InputError("no data")

    result = next(made.run())
    assert not result["holds"]
    assert result["note"] == "always said; could not be measured: no data"


def test_unknown_papers() -> None:
    with pytest.raises(UnknownNameError, match="nearest: 'grad-cam'"):
        reproduce(["gradcam"])


def test_a_quick_claim_for_real() -> None:
    result = paper._discriminates_photographs([0])
    assert result.holds
    assert result.measured > 2 * result.control


def test_the_attack_stays_within_its_bound() -> None:
    model = paper._efficientnet()
    x = model.prepare(paper.photo("coffee")).main
    attacked = paper._pgd(model, x, model(x).argmin(1), seed=0, steps=3)
    assert 0 < float((attacked - x).abs().max()) <= 2 / 128 + 1e-6
