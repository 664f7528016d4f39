"""Measures of continual learning: closed forms first, then laws, then bad input."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from nissl.errors import InputError
from nissl.evaluation import average_accuracy, backward_transfer, forgetting, forward_transfer

R = np.array([[0.9, 0.2, 0.15], [0.6, 0.8, 0.35], [0.65, 0.5, 0.7]])


def test_by_hand():
    assert average_accuracy(R) == pytest.approx((0.65 + 0.5 + 0.7) / 3)
    assert backward_transfer(R) == pytest.approx(((0.65 - 0.9) + (0.5 - 0.8)) / 2)
    assert forward_transfer(R, [0.1, 0.1, 0.2]) == pytest.approx(((0.2 - 0.1) + (0.35 - 0.2)) / 2)
    assert forgetting(R).values == pytest.approx([0.25, 0.3])


def test_forgetting_counts_from_the_best_since_it_was_learnt():
    r = np.array([[0.5, 0.99, 0], [0.9, 0.6, 0], [0.7, 0.4, 1]])
    # Task 1 was at 0.99 before it was learnt (by chance): that does not count.
    assert forgetting(r).values == pytest.approx([0.2, 0.2])


def test_entries_that_a_measure_does_not_read_may_be_missing():
    r = np.where(np.tril(np.ones((3, 3), bool)), R, np.nan)
    assert average_accuracy(r) == average_accuracy(R)
    assert backward_transfer(r) == backward_transfer(R)
    assert forgetting(r).values == pytest.approx(forgetting(R).values)
    with pytest.raises(InputError, match="just above the diagonal"):
        forward_transfer(r, 0.1)


def test_columns_are_matched_with_the_order_of_learning_by_name():
    named = xr.DataArray(
        R, dims=("after_task", "task"), coords={"after_task": ["b", "a", "c"], "task": ["b", "a", "c"]}
    )
    turned = named.sel(task=["a", "b", "c"]).T
    for measure in (average_accuracy, backward_transfer, lambda r: forward_transfer(r, 0.1)):
        assert measure(turned) == pytest.approx(measure(R))
    assert forgetting(turned).sel(task="b") == pytest.approx(0.25)
    base = xr.DataArray([0.2, 0.1, 0.0], dims="task", coords={"task": ["c", "a", "b"]})
    assert forward_transfer(turned, base) == pytest.approx(forward_transfer(R, [0.0, 0.1, 0.2]))


def test_takes_lists_torch_and_xarray():
    assert (
        average_accuracy(R.tolist())
        == pytest.approx(average_accuracy(torch.tensor(R)))
        == average_accuracy(xr.DataArray(R, dims=("after_task", "task")))
    )


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), n=st.integers(2, 6))
def test_laws(seed, n):
    r = np.random.default_rng(seed).uniform(0, 1, (n, n))
    fell = forgetting(r).values
    # The best since learning is at least the accuracy just after learning.
    assert fell.mean() >= -backward_transfer(r) - 1e-12
    if n == 2:
        assert fell.mean() == pytest.approx(-backward_transfer(r))
    steady = np.tile(r[0], (n, 1))
    assert backward_transfer(steady) == pytest.approx(0, abs=1e-12)
    assert np.allclose(forgetting(steady), 0)
    assert forward_transfer(steady, r[0]) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (R[:2], "never learnt"),
        (R[:, :2], "in no column"),
        (R * 100, "divide percentages"),
        (-R, "from 0 to 1"),
        (np.where(R == 0.5, np.nan, R), "NaN in the last row"),
        (R[0], "give \\(after_task, task\\)"),
        (np.empty((0, 0)), "shape \\(0, 0\\)"),
        (np.array([["a"]]), "type <U1"),
        (xr.DataArray(R, dims=("x", "task")), "axes"),
        (
            xr.DataArray(R, dims=("after_task", "task"), coords={"after_task": [0, 0, 1], "task": [0, 1, 2]}),
            "occurs twice",
        ),
    ],
)
def test_bad_matrices(bad, says):
    with pytest.raises(InputError, match=says):
        average_accuracy(bad)


def test_an_unseen_task_is_named():
    r = xr.DataArray(R, dims=("after_task", "task"), coords={"after_task": ["a", "b", "c"], "task": ["a", "b", "d"]})
    for measure in (average_accuracy, backward_transfer, forgetting, lambda x: forward_transfer(x, 0.1)):
        with pytest.raises(InputError, match="task d is in no row"):
            measure(r)


def test_bad_baselines_and_single_tasks():
    for measure in (backward_transfer, forgetting, lambda r: forward_transfer(r, 0.1)):
        with pytest.raises(InputError, match="at least 2"):
            measure([[0.5]])
    assert average_accuracy([[0.5]]) == 0.5
    for bad in ([0.1, 0.2], [0.1, np.nan, 0.1], 10.0):
        with pytest.raises(InputError, match="baseline"):
            forward_transfer(R, bad)
    with pytest.raises(InputError, match="without task"):
        forward_transfer(R, xr.DataArray([0.1], dims="task", coords={"task": [5]}))
