"""Counter-current learning: gradients by hand, what may not cross, mirrors, resume, other rules, and what is refused."""

from __future__ import annotations

import copy
from itertools import pairwise

import numpy as np
import pytest
import torch
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from torch import nn
from torch.autograd import gradcheck

import nissl
from nissl.errors import InputError, ModelError, StoreError, UnknownNameError
from nissl.learning.counter_current import (
    RULES,
    BackPropagation,
    CounterCurrentNetwork,
    FeedbackAlignment,
    TargetPropagation,
    centred_similarity_loss,
    code_loss,
    code_rank,
    code_similarity,
    compare_rules,
    effective_rank,
    linear_cka,
    lopsided,
    make_rule,
    saved_memory,
    similarity_loss,
    step_memory,
    template_loss,
    update_agreement,
)

QUIET = {"progress": False}


def mlp(widths=(8, 12, 9, 3), seed=0, norm=False, dtype=torch.float64):
    torch.manual_seed(seed)
    parts = []
    for before, after in pairwise(widths):
        parts += [nn.Linear(before, after, bias=False), *([nn.BatchNorm1d(after)] if norm else []), nn.ELU()]
    return nn.Sequential(*parts[: -2 if norm else -1]).to(dtype)


def cnn():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(4, 6, 3, stride=2, padding=1), nn.ELU(), nn.Dropout(0.1), nn.Flatten(),
        nn.Linear(6 * 4 * 4, 3),
    )  # fmt: skip


def blobs(n=60, d=8, classes=3, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % classes
    centres = 2 * torch.randn(classes, d, generator=generator, dtype=dtype)
    return centres[y] + torch.randn(n, d, generator=generator, dtype=dtype), y


def pictures(n=30, seed=0):
    generator = torch.Generator().manual_seed(seed)
    x, y = 0.3 * torch.randn(n, 1, 16, 16, generator=generator), torch.arange(n) % 3
    for i, k in enumerate(y):
        x[i, 0, :, 5 * k : 5 * k + 4] += 1
    return x, y


def weights(network):
    return [next(block.layer.module.parameters()) for block in network.blocks]


def backs(network):
    return [next(module.parameters()) for module in network.feedback]


# Closed forms


def test_one_layer_is_softmax_regression():
    x, y = blobs()
    network = CounterCurrentNetwork([nn.Linear(8, 3).double()])
    logistic = LogisticRegression(C=5.0, tol=1e-10, max_iter=5000).fit(x.numpy(), y.numpy())
    with torch.no_grad():
        network.network[0].weight.copy_(torch.from_numpy(logistic.coef_))
        network.network[0].bias.copy_(torch.from_numpy(logistic.intercept_))
    network.losses(x, y)[1].backward()
    # At scikit-learn's optimum the gradient is what balances its penalty, |w|^2 / 2C over n samples.
    np.testing.assert_allclose(network.network[0].weight.grad, -logistic.coef_ / (5.0 * len(x)), atol=1e-7)
    np.testing.assert_allclose(network.network[0].bias.grad, 0, atol=1e-7)


def test_local_gradients_by_hand():
    x, y = blobs()
    network = CounterCurrentNetwork(mlp(), seed=3)
    network.configure(clip=None, lr=1e-12, strength=0.7)
    F, B = weights(network), backs(network)
    eye = torch.eye(3, dtype=torch.float64)
    with torch.no_grad():
        a = [x]
        z = []
        for i, w in enumerate(F):
            z.append(a[-1] @ w.T)
            a.append(nn.functional.elu(z[-1]) if i < 2 else z[-1])
        c, u = [eye], []
        for i, w in enumerate(reversed(B)):
            u.insert(0, c[0] @ w.T)
            c.insert(0, nn.functional.elu(u[0]) if i < 2 else u[0])

        def slope(v):
            return torch.where(v > 0, torch.ones_like(v), v.exp())

        hot = torch.nn.functional.one_hot(y, 3).double()
        forward, feedback = {}, {}
        for layer in range(3):
            dm = 2 * 256 * 0.7 * (a[layer] @ c[layer].T - hot) / (60 * 3 * a[layer].shape[1])
            if layer:
                forward[layer] = ((dm @ c[layer]) * slope(z[layer - 1])).T @ a[layer - 1]
            own = dm.T @ a[layer]
            feedback[layer + 1] = (own * (slope(u[layer]) if layer else 1)).T @ c[layer + 1]
        forward[3] = ((z[2].softmax(1) - hot) / 60).T @ a[2]
    network.step(x, y)
    for layer in (1, 2, 3):
        torch.testing.assert_close(F[layer - 1].grad, forward[layer], rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(B[layer - 1].grad, feedback[layer], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("loss", [template_loss, similarity_loss, centred_similarity_loss, code_loss])
def test_losses_have_right_gradients(loss):
    g = torch.Generator().manual_seed(0)
    a = torch.randn(5, 4, generator=g, dtype=torch.float64, requires_grad=True)
    c = torch.randn(5, 4, generator=g, dtype=torch.float64, requires_grad=True)
    match = torch.eye(5, dtype=torch.float64)
    assert gradcheck(lambda p, q: loss(p, q, match, 0.6), (a, c))


@pytest.mark.parametrize("layer", [0, 1, 2, 3])
def test_each_loss_has_right_gradients_in_its_own_weights(layer):
    x, y = blobs(9)
    network = CounterCurrentNetwork(mlp((8, 5, 4, 3)), seed=1)
    own = ([weights(network)[layer - 1]] if layer else []) + ([backs(network)[layer]] if layer < 3 else [])

    def value(*numbers):
        kept = [w.data for w in own]
        for w, v in zip(own, numbers, strict=True):
            w.data = v.data
        out = network.losses(x, y)[layer]
        found = torch.autograd.grad(out, own)
        for w, k in zip(own, kept, strict=True):
            w.data = k
        return out.detach(), found

    _, analytic = value(*own)
    for i, w in enumerate(own):
        direction = torch.randn(w.shape, generator=torch.Generator().manual_seed(i), dtype=w.dtype)
        ends = []
        for h in (1e-6, -1e-6):
            numbers = [v.detach().clone() for v in own]
            numbers[i] += h * direction
            ends.append(value(*numbers)[0])
        torch.testing.assert_close((ends[0] - ends[1]) / 2e-6, (analytic[i] * direction).sum(), rtol=1e-6, atol=1e-8)


@settings(max_examples=25, deadline=None)
@given(st.floats(0.01, 100.0), st.integers(0, 1000))
def test_scaling_codes_against_templates_changes_nothing(t, seed):
    g = torch.Generator().manual_seed(seed)
    a, c = torch.randn(6, 5, generator=g, dtype=torch.float64), torch.randn(3, 5, generator=g, dtype=torch.float64)
    match = torch.nn.functional.one_hot(torch.arange(6) % 3, 3).double()
    torch.testing.assert_close(template_loss(t * a, c / t, match), template_loss(a, c, match))
    torch.testing.assert_close(similarity_loss(t * a, c / t, match), similarity_loss(a, c, match))


@pytest.mark.parametrize("loss", ["template", "similarity", "mse"])
def test_the_order_of_a_batch_does_not_matter(loss):
    x, y = blobs()
    order = torch.randperm(60, generator=torch.Generator().manual_seed(0))
    one, other = (CounterCurrentNetwork(mlp()).configure(local_loss=loss) for _ in range(2))
    one.step(x, y)
    other.step(x[order], y[order])
    for p, q in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-10, atol=1e-13)


def test_square_of_codes_uses_each_samples_own_template():
    a, c = torch.randn(4, 3, dtype=torch.float64), torch.randn(2, 3, dtype=torch.float64)
    match = torch.tensor([[0.0, 1], [1, 0], [1, 0], [0, 1]], dtype=torch.float64)
    own = c[[1, 0, 0, 1]]

    def turned(z):
        z = z - z.mean(1, keepdim=True)
        return z / z.norm(dim=1, keepdim=True)

    expected = (a - own).square().mean() + (turned(a) - turned(own)).square().mean()
    torch.testing.assert_close(code_loss(a, c, match), expected)
    maps = torch.randn(2, 3, 4, 5)
    assert code_loss(maps, torch.zeros_like(maps), torch.eye(2)) > 4 * maps.square().mean()  # times the height


# What may not cross


def test_gradients_never_cross_a_layer():
    x, y = blobs()
    network = CounterCurrentNetwork(mlp(), seed=2)
    every = weights(network) + backs(network)

    def gradients(chosen, stop=True):
        losses = network.losses(x, y, stop=stop)
        found = torch.autograd.grad(sum(losses[k] for k in chosen), every, allow_unused=True)
        return [torch.zeros_like(w) if g is None else g for w, g in zip(every, found, strict=True)]

    total = gradients(range(4))
    for layer in range(4):
        alone, mine = gradients([layer]), set()
        if layer:
            mine.add(layer - 1)
        if layer < 3:
            mine.add(3 + layer)
        for i, (g, t) in enumerate(zip(alone, total, strict=True)):
            assert torch.equal(g, t) if i in mine else not g.any()
    assert not torch.equal(gradients(range(4), stop=False)[0], total[0])
    x.requires_grad_()
    for layer in (1, 2, 3):
        assert torch.autograd.grad(network.losses(x, y)[layer], x, allow_unused=True)[0] is None


@pytest.mark.parametrize("norm", [False, True])
def test_a_step_has_the_gradients_of_the_sum(norm):
    x, y = blobs()
    network = CounterCurrentNetwork(mlp(norm=norm))
    reference = copy.deepcopy(network)
    torch.stack(list(reference.losses(x, y).values())).sum().backward()
    network.configure(clip=None, lr=1e-12)
    losses = network.step(x, y)
    assert list(losses) == ["0", "1", "2", "3"]
    for p, q in zip(network.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-12, atol=1e-14)


def test_what_is_kept_is_one_layer():
    x, y = blobs(64, 32, dtype=torch.float32)
    peaks = {}
    for depth in (3, 6, 12):
        layers = mlp((32, *[32] * (depth - 1), 3), dtype=torch.float32)
        peaks[depth] = step_memory(CounterCurrentNetwork(layers), x, y), step_memory(BackPropagation(layers), x, y)
    assert peaks[3][0] == peaks[6][0] == peaks[12][0]
    assert peaks[12][1] > 1.8 * peaks[6][1]
    assert peaks[6][0] < peaks[6][1]


def test_saved_memory_counts_shared_storage_once():
    x = torch.ones(10, requires_grad=True)
    assert saved_memory(lambda: (x * x).sum().backward()) == 40
    y = x.detach()
    assert saved_memory(lambda: (x.exp() + x.exp()).sum()) == 80
    assert saved_memory(lambda: y * y) == 0


def test_batch_norm_counts_each_batch_once():
    x, y = blobs()
    network = CounterCurrentNetwork(mlp(norm=True)).configure(target_filter=True)
    network.step(x, y)
    norms = [m for m in network.modules() if isinstance(m, nn.BatchNorm1d)]
    assert len(norms) == 4
    assert {int(m.num_batches_tracked) for m in norms} == {1}


# Settings


def test_clipping_is_separate_and_gradients_are_centred():
    x, y = blobs()
    network = CounterCurrentNetwork(mlp()).configure(clip=1e-3, centralise=True)
    network.step(x, y)
    for group in network.groups().values():
        norm = torch.stack([p.grad.square().sum() for p in group]).sum().sqrt()
        assert float(norm) == pytest.approx(1e-3, rel=1e-3)
        assert all(p.grad.mean(1).abs().max() < 1e-12 for p in group)


def test_warm_up_scales_the_loss():
    x, y = blobs()
    network, slow = CounterCurrentNetwork(mlp()), CounterCurrentNetwork(mlp())
    network.configure(clip=None, lr=1e-12).step(x, y)
    slow.configure(clip=None, lr=1e-12, warmup=4).step(x, y)
    for p, q in zip(network.parameters(), slow.parameters(), strict=True):
        torch.testing.assert_close(p.grad / 4, q.grad)


def test_the_filter_leaves_sure_samples_out_of_local_losses():
    x, y = blobs()
    network = CounterCurrentNetwork(mlp()).fit(x, y, epochs=30, lr=0.1, **QUIET)
    with torch.no_grad():
        weights(network)[2].mul_(4)  # surer than it has reason to be
    p = network(x).softmax(1).gather(1, y[:, None])[:, 0]
    sure = p > 0.9
    assert 0 < int(sure.sum()) < 60
    a, c = network.forward_codes(x)[1], network.feedback_codes(network.top_code())[1]
    hot = torch.nn.functional.one_hot(y, 3).double()
    expected = template_loss(torch.where(sure[:, None], torch.zeros_like(a), a), c, hot)
    network.configure(target_filter=True, lr=1e-12)
    assert network.step(x, y)["1"] == pytest.approx(float(expected))


def test_controls_do_what_they_say():
    x, y = blobs()
    frozen = CounterCurrentNetwork(mlp())
    before = [p.clone() for p in backs(frozen)]
    frozen.fit(x, y, epochs=2, freeze_feedback=True, momentum=0.5, weight_decay=0.1, **QUIET)
    assert all(torch.equal(p, q) for p, q in zip(before, backs(frozen), strict=True))
    top = CounterCurrentNetwork(mlp())
    before = [p.clone() for p in weights(top)]
    top.fit(x, y, epochs=2, local_loss="top", **QUIET)
    changed = [not torch.equal(p, q) for p, q in zip(before, weights(top), strict=True)]
    assert changed == [False, False, True]
    assert list(top.losses(x, y)) == [3]
    plain, shuffled = (CounterCurrentNetwork(mlp()).configure(shuffle=s, clip=None, lr=1e-12) for s in (False, True))
    plain.step(x, y)
    shuffled.step(x, y)
    same = [torch.equal(p.grad, q.grad) for p, q in zip(weights(plain), weights(shuffled), strict=True)]
    assert same == [False, False, True]


# Networks with other layers


def test_a_convolutional_network_learns_and_can_be_read(tmp_path):
    x, y = pictures(90)
    network = CounterCurrentNetwork(cnn(), input_shape=(1, 16, 16))
    network.fit(
        x.numpy(), y.numpy(), epochs=12, batch_size=15, lr=0.2, local_loss="similarity", test=pictures(30, 5), **QUIET
    )
    assert network.score(*pictures(30, 7)) > 0.9
    assert network.curve_.score.sizes == {"epoch": 12}
    codes, templates = network.activations(x), network.templates()
    assert [codes[i].dims for i in codes] == [("sample", "unit", "y", "x")] * 2 + [("sample", "unit")] * 2
    assert [c.shape[1:] for c in codes.values()] == [t.shape[1:] for t in templates.values()]
    assert network.templates([2, 0])[0]["class"].values.tolist() == [2, 0]
    assert network.template_images().dims == ("class", "y", "x")
    flat, pixels = templates[0].values.reshape(3, -1), x.flatten(1).numpy()
    seen = network.template_images(x).values.reshape(3, -1)
    np.testing.assert_allclose(seen, flat @ np.cov(pixels.T, bias=True), rtol=1e-3, atol=1e-4)
    assert network.alignment().shape == (3,)
    accuracy = network.layer_accuracy(x, y)
    np.testing.assert_allclose(accuracy[-1], network.score(x, y))
    recorded = nissl.record(network, x, at=str(accuracy.site.values[1]))
    np.testing.assert_allclose(recorded["network.3"], codes[1], atol=1e-5)
    with nissl.intervene(nissl.load(network), {"network.3": nissl.Ablate()}), torch.no_grad():
        silenced = network.eval()(x)
    assert not torch.allclose(silenced, network(x))


def test_mirrors_have_the_shapes_of_what_they_mirror():
    network = CounterCurrentNetwork(cnn(), input_shape=(1, 16, 16))
    kinds = [[type(m).__name__ for m in module] for module in network.feedback]
    assert kinds == [
        ["Upsample", "Conv2d"],
        ["Unflatten", "Upsample", "Conv2d", "BatchNorm2d", "ReLU"],
        ["Linear", "Unflatten", "ELU", "Flatten"],
    ]
    decoder = nn.Sequential(
        nn.Conv2d(1, 4, 3, 2, 1), nn.ReLU(), nn.Upsample(scale_factor=2), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(),
        nn.ConvTranspose2d(4, 1, 2, 2), nn.MaxPool2d(2),
    )  # fmt: skip
    with pytest.raises(ModelError, match="ends with '6'"):
        CounterCurrentNetwork(decoder, input_shape=(1, 8, 8), autoencoder=True)
    decoder = nn.Sequential(*decoder[:4], nn.ReLU(), nn.Conv2d(4, 1, 3, padding=1))
    paired = CounterCurrentNetwork(decoder, input_shape=(1, 8, 8), autoencoder=True)
    x = torch.rand(4, 1, 8, 8)
    assert [c.shape for c in paired.templates(x).values()] == [a.shape for a in paired.activations(x).values()]
    assert np.isfinite(paired.fit(x, epochs=1, batch_size=2, local_loss="mse", **QUIET).score(x))


def test_alignment_is_one_where_the_feedback_is_the_transpose():
    network = CounterCurrentNetwork(cnn(), input_shape=(1, 16, 16))
    with torch.no_grad():
        for w, b in zip(weights(network), backs(network), strict=True):
            b.copy_(w.transpose(0, 1).flip(list(range(2, w.ndim))))
    np.testing.assert_allclose(network.alignment(), 1, atol=1e-6)


class Residual(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.inner = nn.Linear(d, d)

    def forward(self, x):
        return x + torch.tanh(self.inner(x))


def test_feedback_can_be_given_by_hand():
    layers = [nn.Linear(8, 6), nn.ReLU(), Residual(6), nn.Linear(6, 3)]
    with pytest.raises(ModelError, match=r"'2' \(Residual\) has no mirror.*feedback_layers"):
        CounterCurrentNetwork(layers)
    network = CounterCurrentNetwork(layers, [None, Residual(6), None])
    x, y = blobs(dtype=torch.float32)
    assert network.fit(x, y, epochs=30, lr=0.3, batch_size=20, **QUIET).score(x, y) > 0.8
    assert np.isfinite(network.alignment()).all()
    with pytest.raises(InputError, match="2 feedback_layers for 3"):
        CounterCurrentNetwork(layers, [None, None])
    with pytest.raises(ModelError, match="must lead from"):
        CounterCurrentNetwork(layers, [None, nn.Linear(6, 5), None])
    shared = Residual(6)
    with pytest.raises(ModelError, match="must be separate"):
        CounterCurrentNetwork([nn.Linear(8, 6), shared, nn.Linear(6, 3)], [None, shared, None])


def test_an_autoencoder_learns_and_begins_lopsided():
    x = torch.rand(200, 4, generator=torch.Generator().manual_seed(0)) @ torch.rand(
        4, 16, generator=torch.Generator().manual_seed(1)
    )
    network = CounterCurrentNetwork(mlp((16, 12, 6, 12, 16), norm=True, dtype=torch.float32), autoencoder=True)
    before = network.score(x)
    network.fit(x, epochs=10, batch_size=20, lr=0.1, momentum=0.9, **QUIET)
    assert network.score(x) < 0.2 * before
    assert network.predict(x).shape == (200, 16)
    assert not any(p.requires_grad for m in network.modules() if isinstance(m, nn.BatchNorm1d) for p in m.parameters())
    assert set(code_rank(network, x)) == {"forward", "feedback"}
    begun = lopsided(CounterCurrentNetwork(mlp((16, 12, 6, 12, 16)), autoencoder=True))
    F, B = weights(begun), backs(begun)
    torch.testing.assert_close(F[1] @ F[1].T, torch.eye(6).double())
    torch.testing.assert_close(F[2].T @ F[2], 1e-6 * torch.eye(6).double())
    torch.testing.assert_close(B[2] @ B[2].T, torch.eye(6).double())
    torch.testing.assert_close(B[1].T @ B[1], 1e-6 * torch.eye(6).double())
    assert not F[3].any()
    assert not B[0].any()


# Other rules, and comparing them


@pytest.mark.parametrize("rule", list(RULES))
def test_every_rule_learns_what_a_last_layer_can(rule):
    x, y = blobs(120)
    learner = make_rule(rule, mlp((8, 20, 15, 3)))
    assert learner.fit(x, y, epochs=25, batch_size=20, lr=0.3, **RULES[rule][1], **QUIET).score(x, y) > 0.6
    assert learner.predict(x).dims == ("sample",)


def test_back_propagation_is_autograd_and_alignment_is_not():
    x, y = blobs()
    layers = mlp()
    torch.nn.functional.cross_entropy(layers(x), y).backward()
    expected = [p.grad.clone() for p in layers.parameters()]
    bp = BackPropagation(mlp()).configure(clip=None, lr=1e-12)
    fa = FeedbackAlignment(mlp()).configure(clip=None, lr=1e-12)
    bp.step(x, y)
    fa.step(x, y)
    for g, p, q in zip(expected, bp.parameters(), fa.parameters(), strict=True):
        torch.testing.assert_close(g, p.grad)
        assert torch.allclose(g, q.grad) == (q is list(fa.parameters())[-1])
    handles = [m._forward_hooks for m in fa.network]
    assert not any(handles)


def test_target_propagation_follows_the_gradient_below_the_top_and_learns_inverses():
    x, y = blobs()
    network = TargetPropagation(mlp((8, 6, 6, 6, 3))).configure(clip=None, lr=1e-12, target_step=1e-6)
    before = [p.clone() for p in network.parameters()]
    network.step(x, y)
    reference = copy.deepcopy(network.network)
    reference.zero_grad()
    torch.nn.functional.cross_entropy(reference(x), y).backward()
    mine, true = weights(network), [p.grad for p in reference.parameters()]
    torch.testing.assert_close(mine[3].grad, true[3])
    torch.testing.assert_close(mine[2].grad, true[2], rtol=1e-6, atol=1e-9)  # one step below: the exact gradient
    assert all(p.shape == q.shape for p, q in zip(before, network.parameters(), strict=True))
    assert [p.grad is not None for p in backs(network)] == [False, True, True, False]
    network.configure(lr=0.05, momentum=0.9)
    first = network.step(x, y)
    for _ in range(300):
        network.step(x, y)
    h1, h2 = network.forward_codes(x)[1:3]
    error = (network.feedback[1](h2) - h1).square().mean() / h1.var()
    assert error.item() < 0.5
    assert network.step(x, y)["4"] < first["4"]


def test_rules_side_by_side():
    x, y = blobs(150, dtype=torch.float32)
    layers = mlp(dtype=torch.float32)
    kept = copy.deepcopy(layers.state_dict())
    table = compare_rules(layers, x, y, epochs=3, lr=[0.1, 0.5], batch_size=20, **QUIET)
    assert list(table.columns) == ["rule", "accuracy", "seconds", "weights", "memory", "lr"]
    assert list(table.rule) == list(RULES)
    n = sum(p.numel() for p in layers.parameters())
    by_rule = table.set_index("rule")
    assert by_rule.weights[["counter-current", "back-propagation", "last layer only"]].tolist() == [2 * n, n, 27]
    assert set(table.lr) <= {0.1, 0.5}
    assert {rule: (len(s), s[-1]) for rule, s in table.attrs["scores"].items()} == {
        r: (3, a) for r, a in by_rule.accuracy.items()
    }
    assert all(torch.equal(v, layers.state_dict()[k]) for k, v in kept.items())
    again = compare_rules(
        layers,
        x,
        y,
        rules=["counter-current"],
        epochs=3,
        lr=float(by_rule.lr["counter-current"]),
        batch_size=20,
        **QUIET,
    )
    assert again.accuracy[0] == by_rule.accuracy["counter-current"]
    for wrong, error in [
        ({"rules": ["backprop"]}, UnknownNameError),
        ({"test": 1.0}, InputError),
        ({"lr": []}, InputError),
    ]:
        with pytest.raises(error):
            compare_rules(layers, x, y, epochs=1, **({"rules": ["back-propagation"]} | wrong), **QUIET)


# Measures


def test_measures_of_codes():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(50, 6))
    rotation = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    assert linear_cka(a, 3 * a @ rotation + 1) == pytest.approx(1)
    assert linear_cka(a, rng.normal(size=(50, 6))) < 0.4
    assert effective_rank(np.ones((5, 3))) == pytest.approx(1)
    assert effective_rank(rotation) == pytest.approx(6)
    for wrong in (np.full((3, 2), np.nan), np.zeros((3, 2)), np.ones(3)):
        with pytest.raises(InputError):
            effective_rank(wrong)
        with pytest.raises(InputError):
            linear_cka(wrong, np.eye(3))
    with pytest.raises(InputError):
        linear_cka(a, a[:5])


def test_measures_of_networks_leave_them_as_they_are():
    x, y = blobs()
    network = CounterCurrentNetwork(mlp(norm=True)).fit(x, y, epochs=5, lr=0.2, batch_size=20, **QUIET)
    before = copy.deepcopy(network.state_dict())
    cosines, cka = update_agreement(network, x, y), code_similarity(network, x, y)
    assert float(cosines[-1]) == pytest.approx(1)
    assert (cosines.layer.values == [1, 2, 3]).all()
    assert ((cka >= 0) & (cka <= 1)).all()
    assert cka.sizes == {"layer": 2}
    assert all(torch.equal(v, network.state_dict()[k]) for k, v in before.items())
    weights(network)[0].requires_grad_(False)
    assert np.isnan(update_agreement(network, x, y)).values.tolist() == [True, False, False]
    ranks = code_rank(network, x, y)
    assert float(ranks.feedback[3]) <= 3 + 1e-6


# To go on after a stop, files and devices


@pytest.mark.parametrize("rule", ["counter-current", "feedback alignment", "target propagation", "shuffled templates"])
def test_a_run_goes_on_to_the_same_bits(rule, tmp_path):
    x, y = blobs()
    options = {"epochs": 4, "batch_size": 20, "lr": 0.2, "momentum": 0.9, "seed": 3, "every": 2, "test": (x, y)}
    options |= RULES[rule][1] | QUIET
    layers = nn.Sequential(*mlp(norm=True)[:3], nn.Dropout(0.2), *mlp(norm=True)[3:])
    torch.manual_seed(1)
    whole = make_rule(rule, layers).fit(x, y, **options)

    class Killed(Exception):
        pass

    broken = make_rule(rule, layers)
    update = broken._update

    def until_seven(*args):
        if broken._taken == 7:
            raise Killed
        return update(*args)

    broken._update = until_seven
    torch.manual_seed(1)
    with pytest.raises(Killed):
        broken.fit(x, y, checkpoint=tmp_path / "run.pt", **options)
    torch.manual_seed(9)
    resumed = make_rule(rule, layers)
    resumed.fit(x, y, checkpoint=tmp_path / "run.pt", **options)
    assert all(torch.equal(v, whole.state_dict()[k]) for k, v in resumed.state_dict().items())
    xr.testing.assert_identical(resumed.curve_, whole.curve_)
    with pytest.raises(InputError, match=r"lr was 0\.2"):
        make_rule(rule, layers).fit(x, y, checkpoint=tmp_path / "run.pt", **options | {"lr": 0.3})
    (tmp_path / "run.pt").write_bytes(b"no checkpoint")
    with pytest.raises(StoreError):
        make_rule(rule, layers).fit(x, y, checkpoint=tmp_path / "run.pt", **options)


def test_weights_survive_files_and_types(tmp_path):
    from safetensors.torch import load_model, save_model

    network = CounterCurrentNetwork(mlp(norm=True, dtype=torch.float32), seed=1)
    save_model(network, str(tmp_path / "n.safetensors"))
    other = CounterCurrentNetwork(mlp(seed=5, norm=True, dtype=torch.float32), seed=6)
    load_model(other, str(tmp_path / "n.safetensors"))
    x, y = blobs(dtype=torch.float32)
    assert torch.equal(other.eval()(x), network.eval()(x))
    network.double().fit(x, y, epochs=1, **QUIET)
    assert network.templates()[0].dtype == np.float64
    assert "2 layers" not in repr(network)
    assert "3 layers" in repr(network)


def test_seeds_decide_everything():
    x, y = blobs()
    one, two, three = (CounterCurrentNetwork(mlp(), seed=s).fit(x, y, epochs=2, seed=s, **QUIET) for s in (0, 0, 1))
    assert all(torch.equal(p, q) for p, q in zip(one.parameters(), two.parameters(), strict=True))
    assert not torch.equal(weights(one)[0], weights(three)[0])
    # A caller who made the layers under the same seed must not get feedback of the same numbers.
    torch.manual_seed(0)
    layer = nn.Linear(6, 6, bias=False)
    assert not torch.equal(backs(CounterCurrentNetwork([layer]))[0], layer.weight)


# Bad input


@pytest.mark.parametrize(
    ("x", "y", "told"),
    [
        (blobs()[0], torch.arange(60) % 4, "label 3; allowed: 0 to 2"),
        (blobs()[0], -(torch.arange(60) % 2), "label -1"),
        (blobs()[0], torch.arange(60) % 2, "no sample of class 2"),
        (blobs()[0], torch.rand(60), "number of each sample's class"),
        (blobs()[0], torch.full((60,), float("nan")), "number of each sample's class"),
        (blobs()[0], torch.zeros(60, dtype=torch.bool), "number of each sample's class"),
        (blobs()[0], torch.arange(59) % 3, r"shape \(59,\); allowed: \(60,\)"),
        (blobs()[0], None, "give y"),
        (torch.full((60, 8), float("nan")), torch.arange(60) % 3, "NaN or infinite values in 60 samples"),
        (torch.zeros(60, 7), torch.arange(60) % 3, r"shape \(60, 7\); allowed: \(sample, 8\)"),
        (torch.zeros(0, 8), torch.zeros(0).long(), "at least one sample"),
        (torch.zeros(60, 8, dtype=torch.bool), torch.arange(60) % 3, "give numbers"),
    ],
)
def test_data_that_cannot_be(x, y, told):
    network = CounterCurrentNetwork(mlp())
    before = weights(network)[0].clone()
    with pytest.raises(InputError, match=told):
        network.fit(x, y, epochs=1, **QUIET)
    assert torch.equal(before, weights(network)[0])


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"epochs": 0}, InputError),
        ({"batch_size": 0}, InputError),
        ({"lr": float("nan")}, InputError),
        ({"clip": 0.0}, InputError),
        ({"momentum": 1.0}, InputError),
        ({"strength": -1.0}, InputError),
        ({"schedule": "cosin"}, UnknownNameError),
        ({"local_loss": "templates"}, UnknownNameError),
        ({"centralize": True}, UnknownNameError),
        ({"freeze_feedback": True, "local_loss": "top"}, InputError),
    ],
)
def test_settings_that_cannot_be(wrong, error):
    with pytest.raises(error):
        CounterCurrentNetwork(mlp()).fit(*blobs(), **wrong, **QUIET)


class Branching(nn.Module):
    def forward(self, x):
        return x


@pytest.mark.parametrize(
    ("layers", "options", "error", "told"),
    [
        (Branching(), {}, InputError, "Branching is no nn.Sequential"),
        ([nn.Linear(3, 3), "relu"], {}, InputError, "layer 1 is str"),
        ([nn.ReLU()], {}, ModelError, "no layer with weights"),
        ([nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 2)], {}, InputError, "give input_shape"),
        ([nn.Linear(4, 3), nn.ReLU(), nn.Linear(4, 2)], {}, ModelError, "layer '2' .* cannot take a sample of shape"),
        ([nn.Linear(4, 2), nn.Softmax(-1)], {}, ModelError, "must be linear"),
        ([nn.Linear(4, 4), nn.Softmax(-1), nn.Linear(4, 2)], {}, ModelError, r"'1' \(Softmax\) mixes units"),
        ([nn.Linear(4, 4), Branching(), nn.Linear(4, 2)], {}, ModelError, r"'1' \(Branching\) is not known"),
        ([nn.Linear(4, 2)], {"autoencoder": True}, InputError, "must give back"),
        ([nn.LazyLinear(2)], {}, ModelError, "lazy"),
        (
            [nn.Conv1d(1, 2, 3), nn.Flatten(), nn.Linear(12, 2)],
            {"input_shape": (1, 8)},
            ModelError,
            r"\(Conv1d\) has no mirror",
        ),
    ],
)
def test_networks_that_cannot_be(layers, options, error, told):
    with pytest.raises(error, match=told):
        CounterCurrentNetwork(layers, **options)


def test_layers_in_two_places_are_refused():
    shared = nn.Linear(4, 4)
    with pytest.raises(ModelError, match="'0' and '2' share weights"):
        CounterCurrentNetwork([shared, nn.ReLU(), shared, nn.Linear(4, 2)])
    tied = [nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)]
    tied[1].weight = tied[0].weight
    with pytest.raises(ModelError, match="'0' and '1' share weights"):
        CounterCurrentNetwork(tied)


def test_an_activation_may_stand_in_two_places():
    act = nn.ELU()
    network = CounterCurrentNetwork([nn.Linear(4, 4), act, nn.Linear(4, 4), act, nn.Linear(4, 2)])
    assert len(network.blocks) == 3


def test_losses_that_explode_are_told_and_weights_kept():
    x, y = blobs()
    network = CounterCurrentNetwork(mlp())
    before = [p.clone() for p in network.parameters()]
    with pytest.raises(ModelError, match="gradient of the"):
        network.configure(clip=None).step(1e200 * x, y)
    assert all(torch.equal(p, q) for p, q in zip(before, network.parameters(), strict=True))


def test_autoencoders_have_no_classes():
    network = CounterCurrentNetwork(mlp((8, 5, 8)), autoencoder=True)
    x, y = blobs()
    for call in (
        lambda: network.fit(x, y, **QUIET),
        lambda: network.layer_accuracy(x, y),
        lambda: network.template_images(),
        lambda: network.templates(),
        lambda: network.configure(target_filter=True),
        lambda: TargetPropagation(mlp((8, 5, 8)), autoencoder=True),
        lambda: lopsided(CounterCurrentNetwork(mlp())),
    ):
        with pytest.raises(InputError):
            call()
    with pytest.raises(UnknownNameError):
        network.configure(local_loss="template")


# What must not happen to data, and what a comparison survives


def test_networks_that_begin_in_place_leave_the_samples_as_they_are():
    x, y = blobs(dtype=torch.float32)
    kept = x.clone()
    network = CounterCurrentNetwork([nn.ELU(inplace=True), *mlp(dtype=torch.float32)])
    network.fit(x, y, epochs=2, test=(x, y), **QUIET)
    network.step(x, y)
    network.predict(x)
    network.activations(x)
    network.score(x, y)
    code_similarity(network, x, y)
    assert torch.equal(x, kept)
    auto = CounterCurrentNetwork([nn.ELU(inplace=True), *mlp((8, 5, 8), dtype=torch.float32)], autoencoder=True)
    auto.fit(x, epochs=2, test=(x,), **QUIET).templates(x)
    assert torch.equal(x, kept)
    plain = CounterCurrentNetwork(mlp(dtype=torch.float32))
    assert plain._own(x) is x  # no copy where none is needed


@pytest.mark.parametrize(
    "change", [lambda x, y: (x[[1, 0, *range(2, 60)]], y[[1, 0, *range(2, 60)]]), lambda x, y: (x, y.flip(0))]
)
def test_a_finished_run_does_not_go_on_with_other_data(change, tmp_path):
    x, y = blobs()
    CounterCurrentNetwork(mlp()).fit(x, y, epochs=1, checkpoint=tmp_path / "run.pt", **QUIET)
    CounterCurrentNetwork(mlp()).fit(x, y, epochs=1, checkpoint=tmp_path / "run.pt", **QUIET)
    with pytest.raises(InputError, match="data was"):
        CounterCurrentNetwork(mlp()).fit(*change(x, y), epochs=1, checkpoint=tmp_path / "run.pt", **QUIET)


def test_a_rule_that_diverges_does_not_take_the_others_with_it(monkeypatch):
    class Diverging(BackPropagation):
        def _gradients(self, x, target, scale, draw):
            return super()._gradients(x, target, float("inf"), draw)

    monkeypatch.setitem(RULES, "feedback alignment", (Diverging, {}))
    x, y = blobs()
    options = {"rules": ["feedback alignment", "back-propagation"], "epochs": 2, "batch_size": 20} | QUIET
    table = compare_rules(mlp(), x, y, lr=np.float32(0.5), **options)
    assert np.isnan(table.accuracy).tolist() == [True, False]
    assert table.lr.tolist() == [0.5, 0.5]
    assert list(table.attrs["failed"]) == ["feedback alignment"]
    several = compare_rules(mlp(), x, y, lr=[0.1, 0.5], **options)
    assert "no rate of [0.1, 0.5]" in several.attrs["failed"]["feedback alignment"]
    assert several.accuracy[1] > 0.3
    for wrong in (
        {"rules": []},
        {"rules": ["back-propagation"] * 2},
        {"lr": None},
        {"lr": "fast"},
        {"test": float("nan")},
    ):
        with pytest.raises(InputError):
            compare_rules(mlp(), x, y, **(options | wrong))


def test_bfloat16_is_read_as_float32():
    x, y = blobs(dtype=torch.bfloat16)
    network = CounterCurrentNetwork(mlp(dtype=torch.bfloat16)).fit(x, y, epochs=1, **QUIET)
    assert network.activations(x)[1].dtype == np.float32
    assert network.templates()[0].dtype == network.template_images(x).dtype == np.float32


@pytest.mark.parametrize(
    "wrong",
    [
        {"y": ["a", "b", "c"] * 20}, {"test": blobs()[0]}, {"test": 0.2}, {"lr": None}, {"momentum": "0.9"}, {"strength": "1"},
        {"batch_size": 7.5}, {"epochs": True}, {"seed": -1}, {"seed": None}, {"warmup": 1.5},
    ],
)  # fmt: skip
def test_arguments_of_another_kind_are_named(wrong):
    x, y = blobs()
    with pytest.raises(InputError):
        CounterCurrentNetwork(mlp()).fit(x, **({"y": y, "epochs": 1} | wrong), **QUIET)


@pytest.mark.parametrize("seed", [-1, None, 0.5])
def test_seeds_of_networks_are_whole_numbers(seed):
    with pytest.raises(InputError, match="seed="):
        CounterCurrentNetwork(mlp(), seed=seed)
