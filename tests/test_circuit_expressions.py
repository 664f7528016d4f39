"""Diagrams written by hand: against einsum, the laws of linear maps, soundness of types, what is refused."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nissl.diagrams.expressions import (
    broadcast,
    contract,
    diagonal,
    elementwise,
    fuse,
    inner,
    linear,
    outer,
    rearrange,
    shape,
    softmax,
    strips,
    transpose,
    unit,
)
from nissl.diagrams.program import compile_diagram
from nissl.errors import DiagramError, InputError, NisslError, UnknownNameError


def drawn(*sizes, seed=0):
    return torch.randn(*sizes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def run(expression, *inputs, example=None, **weights):
    named = {k.replace("__", "."): v for k, v in weights.items()}
    return compile_diagram(expression.diagram(**(example or {})))(*inputs, parameters=named)


def multi_head():
    scores = contract("y k h, x k h -> y x h", k=4, h=2) @ elementwise(lambda s: s * 0.5) @ softmax("x")
    return (scores + shape("x k h")) @ contract("y x h, x k h -> y k h")


def test_attention_is_what_its_equations_say():
    q, k, v = drawn(3, 4, 2), drawn(5, 4, 2, seed=1), drawn(5, 4, 2, seed=2)
    weights = (torch.einsum("ykh,xkh->yxh", q, k) * 0.5).softmax(1)
    got = run(multi_head(), q, k, v, example={"y": 3, "x": 5})
    torch.testing.assert_close(got, torch.einsum("yxh,xkh->ykh", weights, v))


def test_a_diagram_runs_at_other_sizes_and_every_broadcast_is_a_vmap():
    program = compile_diagram(broadcast(multi_head(), "b").diagram(b=2, y=3, x=5))
    q, k, v = drawn(4, 6, 4, 2), drawn(4, 7, 4, 2, seed=1), drawn(4, 7, 4, 2, seed=2)
    one = compile_diagram(multi_head().diagram(y=3, x=5))
    torch.testing.assert_close(program(q, k, v), torch.stack([one(*t) for t in zip(q, k, v, strict=True)]))


def test_inner_broadcasting_shares_the_other_arrays():
    f = broadcast(multi_head(), "b", strips=[0])
    q, k, v = drawn(4, 3, 4, 2), drawn(5, 4, 2, seed=1), drawn(5, 4, 2, seed=2)
    got = run(f, q, k, v, example={"b": 4, "y": 3, "x": 5})
    one = compile_diagram(multi_head().diagram(y=3, x=5))
    torch.testing.assert_close(got, torch.vmap(one, in_dims=(0, None, None))(q, k, v))


@pytest.mark.parametrize("bias", [True, False])
def test_linear_is_torchs(bias):
    f = broadcast(broadcast(linear("m -> k", "w", bias=bias, m=6, k=5), "t"), "b")
    x, w, b = drawn(2, 3, 6), drawn(5, 6, seed=1), drawn(5, seed=2)
    got = run(f, x, example={"t": 3, "b": 2}, w__weight=w, **({"w__bias": b} if bias else {}))
    torch.testing.assert_close(got, torch.nn.functional.linear(x, w, b if bias else None))


def test_rearrangements_are_einops():
    einops = pytest.importorskip("einops")
    x = drawn(2, 5, 6)
    for axes in (
        "b t (h k) -> b h t k",
        "b t (h k) -> (b t) h k",
        "b t (h k) -> (h t) (b k)",
        "b t (h k) -> t b (h k)",
    ):
        got = run(rearrange(axes, b=2, t=5, h=2, k=3), x)
        torch.testing.assert_close(got, einops.rearrange(x, axes, h=2))


def test_rearrangements_as_views_and_permutations():
    x = drawn(2, 5, 6)
    got = run(rearrange("b t (h k) -> (h t) (b k)", b=2, t=5, h=2, k=3), x)
    torch.testing.assert_close(got, x.reshape(2, 5, 2, 3).permute(2, 1, 0, 3).reshape(10, 6))


def test_building_blocks():
    a, b = drawn(4), drawn(4, seed=1)
    torch.testing.assert_close(run(inner("a", a=4), a, b), a @ b)
    torch.testing.assert_close(run(outer("a, b", a=4, b=4), a, b), torch.outer(a, b))
    torch.testing.assert_close(run(diagonal("a -> a b", a=4), a), a.diag())
    torch.testing.assert_close(run(diagonal("a b -> a", a=4), torch.outer(a, b)), a * b)
    torch.testing.assert_close(run(unit("a b", a=3)), torch.eye(3))
    swapped = run(strips("a, b", [1, 0, 0], a=4, b=4), a, b)
    assert [t is s for t, s in zip(swapped, (b, a, a), strict=True)] == [True] * 3


def test_unit_followed_by_inner_product_is_the_identity():
    x = drawn(5)
    bent = (shape("a", a=5) + unit("a b")) @ contract("a, a b -> b")
    assert torch.equal(run(bent, x), x)
    assert [o.equation for o in fuse(bent).diagram().operations] == ["", "a, a b -> b"]


@given(seed=st.integers(0, 10_000), sizes=st.tuples(*[st.integers(1, 5)] * 4))
@settings(max_examples=15, deadline=None)
def test_a_composite_of_linear_maps_is_one_einsum(seed, sizes):
    m, k, n, t = sizes
    two = (
        (linear("m -> k n", "w", m=m, k=k, n=n) + shape("n t", t=t))
        @ contract("k n, n t -> t k")
        @ rearrange("t k -> k t")
    )
    one = fuse(two)
    assert len(one.diagram().operations) == 1
    w, x, y = drawn(k, n, m, seed=seed), drawn(m, seed=seed + 1), drawn(n, t, seed=seed + 2)
    torch.testing.assert_close(run(one, x, y, w__weight=w), run(two, x, y, w__weight=w))


@given(seed=st.integers(0, 10_000))
@settings(max_examples=10, deadline=None)
def test_a_map_with_its_wires_bent_is_its_transpose(seed):
    f = linear("m -> k h", "w", m=3, k=4, h=2)
    w, x, y = drawn(4, 2, 3, seed=seed), drawn(3, seed=seed + 1), drawn(4, 2, seed=seed + 2)
    forward, back = run(f, x, w__weight=w), run(transpose(f), y, w__weight=w)
    torch.testing.assert_close((forward * y).sum(), (x * back).sum())
    torch.testing.assert_close(run(transpose(transpose(f)), x, w__weight=w), forward)


def test_weights_used_twice_are_one_weight_and_its_wires_stay_apart():
    f = linear("m -> k", "w", m=3, k=3)
    twice = f @ rearrange("k -> k") @ transpose(f)
    w, x = drawn(3, 3), drawn(3, seed=1)
    torch.testing.assert_close(run(fuse(twice), x, w__weight=w), w.T @ (w @ x))
    assert run(twice, x, w__weight=w).shape == (3,)


@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_any_change_of_one_size_is_refused(data):
    sizes = {a: data.draw(st.integers(2, 6)) for a in "mkhn"}
    changed = data.draw(st.sampled_from("kh"))
    first = linear("m -> k h", "w", m=sizes["m"], k=sizes["k"], h=sizes["h"])
    good = linear("k h -> n", "v", n=sizes["n"], k=sizes["k"], h=sizes["h"])
    assert (first @ good).outputs == (("n",),)
    bad = linear("k h -> n", "v", **{**{a: sizes[a] for a in "khn"}, changed: sizes[changed] + 1})
    with pytest.raises(DiagramError, match=f"axis {changed!r} has size"):
        first @ bad


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: linear("m -> k h", "w") @ linear("k -> n", "v"), "'k h' does not go into the column 'k'"),
        (lambda: linear("m -> k", "w") @ linear("n -> l", "v"), "'k' does not go into the column 'n'"),
        (lambda: shape("a, b") @ contract("b, a -> a b"), "'a, b' does not go into the column 'b, a'"),
        (lambda: contract("a b -> c"), "'c' after the arrow only"),
        (lambda: contract("a b"), "needs one arrow"),
        (lambda: linear("m, n -> k", "w"), "one array on each side"),
        (lambda: linear("m k -> k", "w"), "on both sides"),
        (lambda: broadcast(shape("a"), "a"), "has an axis 'a' already"),
        (lambda: broadcast(shape("a"), "b", strips=[1]), "allowed: some of 0 to 0"),
        (lambda: shape("a") @ softmax("b"), "softmax along 'b'"),
        (lambda: rearrange("a b -> a"), "same axes on both sides"),
        (lambda: rearrange("a (b -> a b"), "cannot be read"),
        (lambda: elementwise(lambda x: x.softmax(-1)).on("a"), "is not elementwise"),
        (lambda: fuse(linear("m -> k", "w") @ elementwise(torch.relu)), "is not linear"),
        (lambda: fuse(linear("m -> k", "w", bias=True)), "is not linear, or not one product"),
        (lambda: transpose(contract("a, a -> ")), "several arrays on a side"),
        (lambda: transpose(contract("a b -> a")), "bent it would be copied"),
        (lambda: strips("a", [1]), "allowed: 0 to 0"),
        (lambda: shape("a", b=3), "a size is given for 'b'"),
        (lambda: shape("a", a=0), "allowed: a whole number of at least 1"),
        (lambda: shape("a").diagram(), "no size is known for a"),
        (lambda: shape("a", a=3).diagram(a=3), "is not free"),
        (
            lambda: (linear("m -> k", "w") @ linear("k -> m", "w")).diagram(m=2, k=3),
            "has axes 'k m' in one place and 'm k'",
        ),
    ],
)
def test_what_does_not_fit_is_refused_in_words(make, says):
    with pytest.raises(NisslError, match=says.replace("(", r"\(")):
        make()


def test_a_program_checks_what_it_is_given():
    program = compile_diagram(broadcast(linear("m -> k", "w", m=3, k=2), "b").diagram(b=2))
    weights = {"w.weight": torch.ones(2, 3)}
    with pytest.raises(InputError, match=r"axis 'm' of 'x' has 4 indices; allowed: 3"):
        program(torch.ones(2, 4), parameters=weights)
    with pytest.raises(InputError, match="takes 1 inputs"):
        program(parameters=weights)
    with pytest.raises(InputError, match="2 axes: b m"):
        program(torch.ones(3), parameters=weights)
    with pytest.raises(UnknownNameError, match=r"unknown weight 'w.weight'"):
        program(torch.ones(2, 3), parameters={})
