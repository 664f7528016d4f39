"""Hooks around any network: the forward pass is the same bits, gradients miss what is protected, and nothing is left behind."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn

from nissl.errors import InputError, ModelError, UnknownNameError
from nissl.learning import ContinualTrainer, ErrorFeedback, HebbianProjection, Task, permuted_tasks
from nissl.learning.hebbian_projection._layers import presynaptic
from nissl.nn import SpikingClassifier, SpikingNetwork


def mlp(seed: int = 0, bias: bool = True) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(20, 30, bias=bias), nn.ReLU(), nn.Linear(30, 5, bias=bias))


def convnet(seed: int = 0, **first) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(4, 6, 3, **first), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 2), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 3)
    )  # fmt: skip


def low_rank(n: int, rank: int, units: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, rank, generator=generator) @ torch.randn(rank, units, generator=generator)


def descend(model: nn.Module, x: torch.Tensor, steps: int = 40, lr: float = 0.02, **settings) -> None:
    """Somebody's own loop."""
    optimiser = torch.optim.SGD(model.parameters(), lr=lr, **settings)
    for _ in range(steps):
        optimiser.zero_grad()
        (model(x) - 1.0).square().mean().backward()
        optimiser.step()


def hooks(model: nn.Module) -> int:
    found = 0
    for module in model.modules():
        found += len(module._forward_hooks) + len(module._forward_pre_hooks) + len(module._backward_hooks)
    return found + sum(len(p._backward_hooks or ()) for p in model.parameters())


# ------------------------------------------------------------------ the projection


def protected(model: nn.Module, x: torch.Tensor, k, **settings) -> HebbianProjection:
    projection = HebbianProjection(model, k, **settings)
    with projection:
        descend(model, x)
    model.zero_grad()
    return projection


@pytest.mark.parametrize("form", ["gradient", "input"])
def test_the_forward_pass_is_the_same_bits_and_gradients_miss_what_is_protected(form):
    model, x = mlp(), low_rank(64, 6, 20, 1)
    projection = protected(model, x, (6, 8), form=form)
    plain = model(x)
    (plain - 1).square().mean().backward()
    whole = {n: p.grad.clone() for n, p in model.named_parameters()}
    model.zero_grad()
    with projection:
        inside = model(x)
        (inside - 1).square().mean().backward()
    assert torch.equal(plain, inside)
    for name in ("0", "2"):
        rows = projection.subspaces[name].rows_[: (6 if name == "0" else 8)]
        gradient = model.get_submodule(name).weight.grad
        assert (gradient @ rows.T).abs().max() < 1e-6
        assert torch.allclose(gradient, whole[f"{name}.weight"] @ (torch.eye(rows.shape[1]) - rows.T @ rows), atol=1e-5)


@pytest.mark.parametrize(
    "first",
    [
        {},
        {"padding": 1},
        {"stride": 2},
        {"padding": "same"},
        {"dilation": 2},
        {"groups": 2},
        {"padding": 1, "padding_mode": "circular"},
    ],
)
def test_projecting_gradients_of_convolutions_equals_projecting_unfolded_inputs(first):
    torch.manual_seed(3)
    x = torch.randn(8, 4, 9, 9)
    found = {}
    for form in ("gradient", "input"):
        model = convnet(**first)
        for parameter in model.parameters():
            parameter.requires_grad_(True)
        projection = protected(model, x, (5, 7, 4), form=form)
        with projection:
            y = model(x.clone().requires_grad_(True))
            y.square().sum().backward()
            found[form] = [model.get_submodule(n).weight.grad.clone() for n in projection.layers]
    for a, b in zip(*found.values(), strict=True):
        assert torch.allclose(a, b, atol=1e-5 * float(a.abs().max().clamp_min(1)))


def test_patches_are_what_a_filter_listens_to():
    torch.manual_seed(0)
    layer = nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2, bias=False)
    x = torch.randn(2, 4, 7, 7)
    patches = presynaptic(layer, x)  # (batch, group, place, unit)
    by_hand = torch.stack([patches[:, f // 3] @ layer.weight[f].flatten() for f in range(6)], 1)
    assert torch.allclose(by_hand.reshape(2, 6, 4, 4), layer(x), atol=1e-5)


def test_errors_that_travel_back_are_those_of_plain_training():
    model, x = mlp(), low_rank(32, 5, 20, 2)
    projection = protected(model, x, 4, form="input")
    a, b = (x.clone().requires_grad_(True) for _ in range(2))
    model(a).square().sum().backward()
    with projection:
        model(b).square().sum().backward()
    assert torch.allclose(a.grad, b.grad, atol=1e-5)


def test_old_responses_stay_while_something_new_is_learned():
    model = mlp(bias=False)
    old, new = low_rank(128, 5, 20, 3), low_rank(128, 5, 20, 4)
    projection = HebbianProjection(model, (5, 12), more=(5, 8))
    with projection:
        descend(model, old, 300)
    before, first = model(old).detach(), model[0](old).detach()
    loss = (model(new) - 1).square().mean().item()
    with projection:
        descend(model, new, 300)
    # The first layer's inputs lie in the protected subspace but for what five directions learned online miss.
    assert (model[0](old) - first).abs().max() < 1e-2 * first.abs().max()
    changed = (model(old) - before).square().mean().item()
    assert (model(new) - 1).square().mean().item() < 0.5 * loss
    control = mlp(bias=False)
    descend(control, old, 300)
    descend(control, new, 300)
    assert changed < 0.1 * (control(old) - before).square().mean().item()


def test_a_step_changes_nothing_for_inputs_exactly_in_the_span():
    model, x = mlp(bias=False), low_rank(64, 6, 20, 5)
    projection = protected(model, x, 6)
    inside = torch.randn(50, 6) @ projection.subspaces["0"].protected
    before = model[0](inside).detach()
    with projection:
        descend(model, 3 * torch.randn(64, 20), 20, lr=0.1, momentum=0.9)
    assert (model[0](inside) - before).abs().max() < 1e-5
    assert projection.report()["moved"].max() < 1e-5


def test_spiking_lateral_neurons_protect_as_linear_ones_do_when_levels_grow():
    x, found = low_rank(64, 6, 20, 6), {}
    for levels in (None, 2, 100_000):
        model = mlp()
        projection = protected(model, x, 6)  # the same linear rows for all
        for subspace in projection.subspaces.values():
            subspace.levels = levels
        projection.form, projection.levels = "input", levels
        with projection:
            model(x).square().mean().backward()
            found[levels] = model[0].weight.grad.clone()
    assert torch.allclose(found[None], found[100_000], atol=1e-3)
    assert not torch.allclose(found[None], found[2], atol=1e-2)


# ------------------------------------------------------------------ hooks come and go


@pytest.mark.parametrize("levels", [None, 50])
def test_no_hook_is_left_however_the_block_ends(levels):
    model, x = convnet(), torch.randn(8, 4, 9, 9)
    projection = HebbianProjection(model, (5, 7, 4), levels=levels)
    with projection:
        descend(model, x)
    flags = [p.requires_grad for p in model.parameters()]
    assert hooks(model) == 0
    assert projection.n_tasks == 1
    rows = {n: s.rows_.clone() for n, s in projection.subspaces.items()}
    with pytest.raises(KeyboardInterrupt), projection, ErrorFeedback(model, "fa"):
        model(x).sum().backward()
        assert hooks(model) > 0
        assert not model[1].weight.requires_grad
        raise KeyboardInterrupt
    assert hooks(model) == 0
    assert [p.requires_grad for p in model.parameters()] == flags
    assert projection.n_tasks == 1  # an interrupted task protects nothing
    assert all(torch.equal(rows[n], s.rows_) for n, s in projection.subspaces.items())
    with projection:  # and can be begun again
        descend(model, x)
    assert projection.n_tasks == 2
    for name, subspace in projection.subspaces.items():
        assert torch.equal(subspace.rows_[: len(rows[name])], rows[name])  # bit for bit


def test_biases_and_norms_stand_still_from_the_second_task_on_and_statistics_too():
    model, x = convnet(), torch.randn(8, 4, 9, 9)
    before = {n: v.clone() for n, v in model.state_dict().items()}
    projection = protected(model, x, (5, 7, 4))
    after = {n: v.clone() for n, v in model.state_dict().items()}
    small = [n for n, v in before.items() if v.ndim < 2 and v.is_floating_point()]
    trained = ("1.weight", "1.bias", "1.running_mean", "3.bias")
    assert all(not torch.equal(before[n], after[n]) for n in trained)  # the first task trains them
    with projection:
        model.train()
        descend(model, x + 2)
        model.train()
    assert all(torch.equal(after[n], model.state_dict()[n]) for n in small)
    assert not torch.equal(after["0.weight"], model[0].weight)
    assert model[1].training


def test_evaluation_inside_the_block_teaches_nothing():
    model, x = mlp(), low_rank(64, 6, 20, 1)
    projection = HebbianProjection(model, 3)
    with projection:
        descend(model, x, 3)
        rows = projection.subspaces["0"].rows_.clone()
        with torch.no_grad():
            model(100 + x)
        assert torch.equal(rows, projection.subspaces["0"].rows_)


def test_excluded_layers_train_freely_and_are_not_protected():
    model, x = mlp(), low_rank(64, 6, 20, 1)
    projection = HebbianProjection(model, 4, exclude=["2"])
    for _ in range(2):
        before = model[2].bias.clone()
        with projection:
            descend(model, x)
        assert not torch.equal(before, model[2].bias)
    assert list(projection.layers) == ["0"]


def test_directions_are_counted_and_reported():
    projection = HebbianProjection(mlp(), {"0": 6}, more={"0": 3, "2": 2})
    for seed in range(2):
        with projection:
            descend(projection.model, low_rank(64, 4, 20, seed))
    report = projection.report()
    assert report["protected"].tolist() == [9, 2]
    assert report["free"].tolist() == [11, 28]
    assert report.loc["0", "task 0"] > 0.95
    assert report.loc["0", "task 1"] > 0.3


@pytest.mark.parametrize(("optimiser", "settings"), [(torch.optim.Adam, {}), (torch.optim.SGD, {"weight_decay": 0.5})])
def test_an_optimiser_that_undoes_the_protection_is_told(optimiser, settings):
    model, x = mlp(), low_rank(64, 6, 20, 1)
    projection = protected(model, x, 6)
    projection.attach()
    descent = optimiser(model.parameters(), lr=0.05, **settings)
    for _ in range(20):
        descent.zero_grad()
        model(torch.randn(64, 20)).square().mean().backward()
        descent.step()
    with pytest.warns(UserWarning, match="inside the protected subspace"):
        projection.detach()


def test_double_precision():
    model, x = mlp().double(), low_rank(64, 6, 20, 1).double()
    projection = protected(model, x, 5)
    assert projection.subspaces["0"].rows_.dtype == torch.float64
    with projection:
        model(x).square().mean().backward()
        rows = projection.subspaces["0"].protected
        assert (model[0].weight.grad @ rows.T).abs().max() < 1e-14


def test_half_precision_learns_its_directions_in_single():
    model, x = mlp().bfloat16(), low_rank(64, 6, 20, 1).bfloat16()
    projection = protected(model, x, 5)
    assert projection.subspaces["0"].rows_.dtype == torch.float32
    with projection:
        model(x).square().mean().backward()
    gradient = model[0].weight.grad
    assert gradient.dtype == torch.bfloat16
    assert (gradient.float() @ projection.subspaces["0"].rows_[:5].T).abs().max() < 0.01 * gradient.float().norm()


# ------------------------------------------------------------------ errors travel back


def test_feedback_weights_take_the_place_of_forward_weights():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1, bias=False),
        nn.Conv2d(3, 4, 2, stride=2, bias=False),
        nn.Flatten(),
        nn.Linear(16, 5),
    )
    x, g = torch.randn(3, 2, 4, 4), torch.randn(3, 5)

    def hidden(error: torch.Tensor, convolution: torch.Tensor, linear: torch.Tensor) -> torch.Tensor:
        back = (error @ linear).reshape(3, 4, 2, 2)
        return torch.nn.functional.conv_transpose2d(back, convolution, stride=2)

    def gradient_of_first(middle: torch.Tensor) -> torch.Tensor:
        return torch.nn.grad.conv2d_weight(x, (3, 2, 3, 3), middle, padding=1)

    ways = {
        "bp": (model[1].weight, model[3].weight),
        "ss": (model[1].weight.sign() * np.sqrt(2 / (4 * 4)), model[3].weight.sign() / np.sqrt(16)),
    }
    for path, weights in ways.items():
        model.zero_grad()
        with warnings.catch_warnings(), ErrorFeedback(model, path):
            warnings.simplefilter("error")
            model(x).backward(g)
        assert torch.allclose(model[0].weight.grad, gradient_of_first(hidden(g, *weights)), atol=1e-5)
        assert torch.allclose(model[3].weight.grad, g.T @ model[:3](x), atol=1e-5)
    model.zero_grad()
    with ErrorFeedback(model, "fa", seed=1) as feedback:
        model(x).backward(g)
    drawn = feedback.weights
    assert torch.allclose(model[0].weight.grad, gradient_of_first(hidden(g, drawn["1"], drawn["3"])), atol=1e-5)
    assert float(drawn["3"].std()) == pytest.approx(model[3].weight.std().item(), rel=0.3)
    with ErrorFeedback(model, "fa", seed=1) as again:
        pass
    assert torch.equal(drawn["1"], again.weights["1"])


@pytest.mark.parametrize("first", ["projection", "feedback"])
def test_feedback_and_projected_inputs_work_together_in_any_order(first):
    model, x = mlp(), low_rank(64, 6, 20, 1)
    projection = protected(model, x, 5, form="input")
    feedback = ErrorFeedback(model, "ss")
    blocks = (projection, feedback) if first == "projection" else (feedback, projection)
    with blocks[0], blocks[1]:
        model(x).sum().backward()
    error = torch.ones(64, 5) @ (model[2].weight.sign() / np.sqrt(30)) * (model[0](x) > 0)
    rows = projection.subspaces["0"].rows_[:5]
    assert torch.allclose(model[0].weight.grad, error.T @ (x - x @ rows.T @ rows), atol=1e-4)


# ------------------------------------------------------------------ tasks one after another


def spiking(seed: int = 0, **settings) -> SpikingClassifier:
    online = settings.get("gradient") == "online"
    return SpikingClassifier(SpikingNetwork((20, 24, 24, 3), seed=seed, **settings), n_steps=5, average=not online)


def clouds(n_tasks: int = 2, seed: int = 0) -> list[Task]:
    """Three classes around three points, in few of twenty directions, in other orders of pixels."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(300) % 3
    points = 3 * torch.rand(3, 20, generator=generator)
    return permuted_tasks(points[y] + 0.3 * torch.rand(300, 20, generator=generator), y, n_tasks, seed=seed)


@pytest.mark.parametrize(
    ("gradient", "error"), [("through_time", "bp"), ("through_time", "ss"), ("online", "fa"), ("representation", "bp")]
)
def test_any_training_method_is_protected(gradient, error):
    model = spiking(gradient=gradient)
    projection = HebbianProjection(model, 8, more=4, activity="mean")
    trainer = ContinualTrainer(model, projection, error=error, epochs=10, lr=0.1, progress=False).fit(clouds())
    accuracy = trainer.accuracy_.to_numpy()
    assert accuracy[0, 0] > 0.8
    assert accuracy[1, 0] > accuracy[0, 0] - 0.1
    assert projection.report()["moved"].max() < 1e-4


def test_what_is_online_learns_from_traces_and_those_are_projected():
    model = spiking(gradient="online")
    x = torch.rand(16, 20)
    projection = HebbianProjection(model, 6)
    with projection:
        model(x).square().mean().backward()
    with projection:
        model.zero_grad()
        model(x).square().mean().backward()
        for name, layer in projection.layers.items():
            assert (layer.weight.grad @ projection.subspaces[name].protected.T).abs().max() < 1e-5


def test_a_run_that_stopped_goes_on_bit_for_bit_and_refuses_other_settings(tmp_path):
    tasks = clouds(3)

    def trainer(k: int = 6, lr: float = 0.1) -> ContinualTrainer:
        model = spiking()
        return ContinualTrainer(
            model, HebbianProjection(model, k, activity="mean"), epochs=2, lr=lr, error="fa", replay=4, progress=False
        )

    whole = trainer().fit(tasks)
    stopped, after = trainer(), 0
    ordinary = stopped.fit_task

    def interrupted(task: Task) -> np.ndarray:
        nonlocal after
        if after == 2:
            raise KeyboardInterrupt
        after += 1
        return ordinary(task)

    stopped.fit_task = interrupted  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        stopped.fit(tasks, checkpoint=tmp_path / "run.pt")
    resumed = trainer().fit(tasks, checkpoint=tmp_path / "run.pt")
    assert resumed.accuracy_.equals(whole.accuracy_)
    assert resumed.loss_.equals(whole.loss_)
    for a, b in zip(whole.model.parameters(), resumed.model.parameters(), strict=True):
        assert torch.equal(a, b)
    for other, message in ((trainer(lr=0.2), "lr was 0.1"), (trainer(k=5), "projection was")):
        with pytest.raises(InputError, match=message):
            other.fit(tasks, checkpoint=tmp_path / "run.pt")


def test_own_heads_are_put_back_for_their_tasks():
    model = mlp()
    projection = HebbianProjection(model, 6, exclude=["2"])
    y = torch.arange(90) % 3
    x = low_rank(90, 6, 20, 0) + 2 * torch.nn.functional.one_hot(y, 20)
    tasks = [Task("a", x, y, x, y), Task("b", x, (y + 1) % 3, x, (y + 1) % 3)]  # the same inputs, other classes
    trainer = ContinualTrainer(model, projection, heads="own", head="2", epochs=30, progress=False).fit(tasks)
    accuracy = trainer.accuracy_.to_numpy()
    assert np.isnan(accuracy[0, 1])
    assert accuracy[1, 0] > 0.8
    assert accuracy[1, 1] > 0.8
    with pytest.raises(InputError, match="exclude"):
        ContinualTrainer(model, HebbianProjection(model, 2), heads="own", head="2").fit(tasks)


def test_refining_and_replay():
    model = spiking()
    projection = HebbianProjection(model, 6, activity="mean", every=4)
    trainer = ContinualTrainer(model, projection, epochs=3, refine=2, replay=5, progress=False).fit(clouds())
    assert hooks(model) == 0
    assert projection.n_tasks == 2
    assert trainer.accuracy_[1].min() > 0.4


# ------------------------------------------------------------------ bad input


def tied() -> nn.Module:
    model = nn.Sequential(nn.Linear(5, 5), nn.Linear(5, 5))
    model[1].weight = model[0].weight
    return model


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: HebbianProjection(mlp(), (21, 4)), InputError, "21 directions for layer '0', which has 20 inputs"),
        (lambda: HebbianProjection(mlp(), (4, 4, 4)), InputError, "3 numbers for 2 layers"),
        (lambda: HebbianProjection(mlp(), {"1": 4}), UnknownNameError, "nearest|allowed"),
        (lambda: HebbianProjection(mlp(), -1), InputError, "whole numbers"),
        (lambda: HebbianProjection(mlp(), 4, layers=["3"]), UnknownNameError, "layer"),
        (lambda: HebbianProjection(nn.ReLU(), 4), ModelError, "no Linear or Conv2d"),
        (lambda: HebbianProjection(tied(), 2), ModelError, "share one weight"),
        (lambda: HebbianProjection(nn.Sequential(nn.LazyLinear(4)), 2), ModelError, "plain parameter"),
        (
            lambda: HebbianProjection(nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)), 2),
            ModelError,
            "plain parameter",
        ),
        (lambda: HebbianProjection(mlp(), 4, form="gradients"), UnknownNameError, "gradient"),
        (lambda: HebbianProjection(mlp(), 4, form="gradient", levels=4), InputError, "form='input'"),
        (lambda: HebbianProjection(mlp(), 4, activity="rates"), UnknownNameError, "activity"),
        (lambda: HebbianProjection(mlp(), 4, every=0), InputError, "every"),
        (lambda: HebbianProjection(mlp(), 4, lr=-1.0), InputError, "lr"),
        (lambda: ErrorFeedback(mlp(), "dfa"), UnknownNameError, "fa"),
    ],
)
def test_what_cannot_be_hooked_is_said_before_anything_is(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_tasks_that_do_not_fit_are_refused_before_the_first_begins():
    model = spiking()
    before = [p.clone() for p in model.parameters()]
    projection = HebbianProjection(model, 8, more=7)
    with pytest.raises(InputError, match="3 tasks take 22 directions"):
        ContinualTrainer(model, projection, progress=False).fit(clouds(3))
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    for _ in range(2):
        with projection:
            model(torch.rand(9, 20)).sum().backward()
    with pytest.raises(InputError, match="15 of them protected already"):
        projection.attach()
    assert hooks(model) == 0


def test_activity_with_nan_is_named_and_leaves_nothing_behind():
    model = mlp()
    with pytest.raises(InputError, match=r"input of layer '0'.*NaN"), HebbianProjection(model, 4):
        model(torch.full((3, 20), torch.nan))
    assert hooks(model) == 0


def test_a_network_with_nan_weights_is_refused():
    model = mlp()
    model[0].weight.data[0, 0] = torch.nan
    with pytest.raises(ModelError, match="'0'"):
        HebbianProjection(model, 4).attach()


def test_layers_that_saw_nothing_are_named():
    with pytest.raises(ModelError, match="'0', '2' saw no activity"), HebbianProjection(mlp(), 4):
        pass


def test_a_task_cannot_begin_twice():
    projection = HebbianProjection(mlp(), 4)
    with pytest.raises(InputError, match="under way"), projection, projection:
        pass


def test_a_saved_projection_of_another_network_is_refused():
    model, x = mlp(), low_rank(64, 6, 20, 1)
    state = protected(model, x, 4).state_dict()
    fresh = HebbianProjection(mlp(), 4).load_state_dict(state)
    assert fresh.n_tasks == 1
    assert torch.equal(fresh.subspaces["2"].rows_, state["layers"]["2"]["rows"])
    with pytest.raises(InputError, match="10 inputs"):
        HebbianProjection(nn.Sequential(nn.Linear(10, 30), nn.ReLU(), nn.Linear(30, 5)), 4).load_state_dict(state)
    with pytest.raises(UnknownNameError):
        HebbianProjection(nn.Linear(20, 3), 4).load_state_dict(state)


def test_tasks_that_cannot_be_learned_are_refused():
    x, y = torch.rand(30, 20), torch.arange(30) % 3
    model = spiking()
    cases = [
        ([], "no tasks"),
        ([Task("a", x[y < 2], y[y < 2], x, y)], "class 2, which no task up to it has shown"),
        (
            [
                Task("a", x[y < 2], y[y < 2], x[y < 2], y[y < 2]),
                Task("b", x[y < 2], y[y < 2], x, y),
                Task("c", x, y, x, y),
            ],
            "move the task",
        ),
        ([Task("a", x, y, x, y), Task("a", x, y, x, y)], "name of its own"),
        ([Task("a", x, y + 1, x, y)], "network has 3 classes"),
        ([Task("a", x / 0, y, x, y)], "NaN"),
        ([Task("a", x, y[:5], x, y)], "5 labels"),
    ]
    for tasks, message in cases:
        with pytest.raises(InputError, match=message):
            ContinualTrainer(model, progress=False).fit(tasks)
    with pytest.raises(InputError, match="another network"):
        ContinualTrainer(model, HebbianProjection(spiking(), 2), progress=False).fit([Task("a", x, y, x, y)])
    with pytest.raises(UnknownNameError):
        ContinualTrainer(model, error="pb", progress=False).fit([Task("a", x, y, x, y)])


def test_orders_of_pixels():
    x, y = np.arange(60.0).reshape(20, 3), np.tile([0, 1], 10)
    tasks = permuted_tasks(x, y, 3, seed=1)
    again = permuted_tasks(x, y, 3, seed=1)
    assert all(torch.equal(a.x, b.x) for a, b in zip(tasks, again, strict=True))
    assert all(torch.equal(t.x.sort(1).values, tasks[0].x.sort(1).values) for t in tasks)
    assert torch.equal(tasks[0].y, tasks[2].y)
    for bad in ((x[0], y), (x, y[:-1]), (x * np.nan, y)):
        with pytest.raises(InputError):
            permuted_tasks(*bad)
    with pytest.raises(InputError, match="which no task"):
        permuted_tasks(x, np.arange(20))


@pytest.mark.parametrize("steps", [10, 15])
def test_a_short_task_ends_with_orthonormal_directions(steps: int) -> None:
    torch.manual_seed(0)
    x, model = torch.rand(80, 6), torch.nn.Sequential(torch.nn.Linear(6, 6), torch.nn.Linear(6, 2))
    projection = HebbianProjection(model, 1)
    with projection:
        descent = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(steps):
            descent.zero_grad()
            (model(x) - 1).square().mean().backward()
            descent.step()
    for subspace in projection.subspaces.values():
        assert torch.allclose(subspace.rows_ @ subspace.rows_.T, torch.eye(1), atol=1e-5)


def test_weights_that_nothing_protects_are_named() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(6, 6), torch.nn.Bilinear(1, 1, 1))
    projection = HebbianProjection(model, 1)
    with projection:
        model[0](torch.rand(20, 6)).sum().backward()
    with pytest.warns(UserWarning, match=r"1\.weight"), projection:
        model[0](torch.rand(20, 6)).sum().backward()
