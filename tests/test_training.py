"""The training loop and its checkpoints."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from nissl.errors import InputError, ModelError, StoreError, UnknownNameError
from nissl.learning import checkpoint, train


def batch(generator: torch.Generator) -> tuple[Tensor, Tensor]:
    x = torch.randn(8, 3, generator=generator)
    return x, x.sum(1, keepdim=True)


def squared(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    return (model(x) - y).square().mean()


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))


@pytest.mark.parametrize("optimiser", ["adam", "adamax", "adamw", "sgd"])
def test_it_is_the_plain_loop(optimiser: str) -> None:
    ours, theirs = network(), network()
    train(ours, batch, squared, steps=20, lr=0.01, optimiser=optimiser, clip=0.5, progress=False)
    make = {"adam": torch.optim.Adam, "adamax": torch.optim.Adamax, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
    descent, generator = make[optimiser](theirs.parameters(), lr=0.01), torch.Generator().manual_seed(0)
    for _ in range(20):
        loss = squared(theirs, *batch(generator))
        descent.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(theirs.parameters(), 0.5)
        descent.step()
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), theirs.parameters(), strict=True))


def test_a_run_that_was_cut_off_ends_in_the_same_weights(tmp_path) -> None:
    whole, cut = network(), network()
    curve = train(whole, batch, squared, steps=30, lr=0.05, schedule="cosine", warmup=5, progress=False)

    def interrupted(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        if len(seen) == 17:
            raise KeyboardInterrupt
        seen.append(1)
        return squared(model, x, y)

    seen: list[int] = []
    options = {"steps": 30, "lr": 0.05, "schedule": "cosine", "warmup": 5, "progress": False, "every": 10}
    with pytest.raises(KeyboardInterrupt):
        train(cut, batch, interrupted, checkpoint=tmp_path / "run.pt", **options)
    fresh = network()
    again = train(fresh, batch, squared, checkpoint=tmp_path / "run.pt", **options)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), fresh.parameters(), strict=True))
    assert again["loss"].equals(curve["loss"])
    assert curve["lr"].values[[0, 4]].tolist() == pytest.approx([0.01, 0.05])
    assert curve["lr"].values[-1] < 0.001


def test_groups_with_rates_of_their_own_keep_their_ratio(tmp_path) -> None:
    def grouped(parameters, lr: float) -> torch.optim.Optimizer:
        weight, *others = parameters
        groups = [{"params": [weight], "lr": 0.1 * lr}, {"params": others}]
        made.append(torch.optim.SGD(groups, lr=lr, momentum=0.9))
        return made[-1]

    def interrupted(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        seen.append([group["lr"] for group in made[-1].param_groups])
        if len(seen) == 8:
            raise KeyboardInterrupt
        return squared(model, x, y)

    made: list[torch.optim.Optimizer] = []
    seen: list[list[float]] = []
    options = {
        "steps": 10,
        "lr": 0.05,
        "schedule": "cosine",
        "warmup": 2,
        "every": 5,
        "progress": False,
        "optimiser": grouped,
    }
    whole, cut = network(), network()
    curve = train(whole, batch, squared, **options)
    with pytest.raises(KeyboardInterrupt):
        train(network(), batch, interrupted, checkpoint=tmp_path / "run.pt", **options)
    train(cut, batch, interrupted, checkpoint=tmp_path / "run.pt", **options)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), cut.parameters(), strict=True))
    rates = curve["lr"].values[[*range(8), *range(5, 10)]]
    assert seen == [pytest.approx([0.1 * rate, rate]) for rate in rates]


def test_a_checkpoint_of_another_configuration_names_the_setting(tmp_path) -> None:
    path = tmp_path / "run.pt"
    train(network(), batch, squared, steps=5, lr=0.1, checkpoint=path, progress=False)
    with pytest.raises(InputError, match=r"lr was 0\.1 and is 0\.2"):
        train(network(), batch, squared, steps=5, lr=0.2, checkpoint=path, progress=False)
    with pytest.raises(InputError, match="model was"):
        train(nn.Linear(3, 1), batch, squared, steps=5, lr=0.1, checkpoint=path, progress=False)


def test_damaged_and_missing_checkpoints_are_named(tmp_path) -> None:
    with pytest.raises(StoreError, match="no checkpoint"):
        checkpoint.load(tmp_path / "none.pt", {})
    (tmp_path / "bad.pt").write_bytes(b"PK\x03\x04 not really")
    with pytest.raises(StoreError, match="damaged"):
        checkpoint.load(tmp_path / "bad.pt", {})
    with pytest.raises(StoreError, match="cannot be written"):
        checkpoint.save("/proc/none/run.pt", {}, {})


def test_batches_from_a_list_begin_again() -> None:
    pairs = [batch(torch.Generator().manual_seed(i)) for i in range(3)]
    assert train(network(), pairs, squared, steps=7, progress=False).sizes["step"] == 7
    with pytest.raises(InputError, match="no batches"):
        train(network(), [], squared, steps=7, progress=False)


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"lr": -1.0}, {"lr": float("nan")}, {"warmup": 9, "steps": 3}])
def test_settings_that_cannot_be_are_refused(wrong: dict) -> None:
    with pytest.raises(InputError, match="allowed"):
        train(network(), batch, squared, **{"steps": 3, "progress": False, **wrong})


def test_unknown_names_and_networks_without_weights() -> None:
    with pytest.raises(UnknownNameError, match="nearest: 'adam"):
        train(network(), batch, squared, steps=1, optimiser="adamm")
    with pytest.raises(UnknownNameError, match="cosine"):
        train(network(), batch, squared, steps=1, schedule="cosin")
    with pytest.raises(InputError, match="no weights"):
        train(nn.ReLU(), batch, squared, steps=1)


def test_a_loss_that_is_no_number_ends_the_run_with_its_step() -> None:
    with pytest.raises(ModelError, match="at step 0"):
        train(network(), batch, lambda model, x, y: squared(model, x, y) * torch.nan, steps=3, progress=False)


def test_a_gradient_that_is_no_number_never_reaches_the_weights(tmp_path) -> None:
    model = nn.Linear(3, 1)

    def rooted(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return (model(x) * 0).square().sum().sqrt()  # 0, with an infinite slope

    with pytest.raises(ModelError, match="gradient is nan at step 0"):
        train(model, batch, rooted, steps=3, checkpoint=tmp_path / "run.pt", progress=False)
    assert all(p.isfinite().all() for p in model.parameters())


def test_dropout_goes_on_as_it_would_have(tmp_path) -> None:
    def dropping() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 8), nn.Dropout(), nn.Linear(8, 1))

    def cut(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        if len(seen) == 15:
            raise KeyboardInterrupt
        seen.append(1)
        return squared(model, x, y)

    seen: list[int] = []
    options = {"steps": 20, "lr": 0.05, "progress": False, "every": 5}
    whole, broken, again = dropping(), dropping(), dropping()
    torch.manual_seed(1)
    curve = train(whole, batch, squared, **options)
    torch.manual_seed(1)
    with pytest.raises(KeyboardInterrupt):
        train(broken, batch, cut, checkpoint=tmp_path / "run.pt", **options)
    assert train(again, batch, squared, checkpoint=tmp_path / "run.pt", **options).equals(curve)


@pytest.mark.parametrize(
    ("loss", "said"),
    [
        (lambda model, x, y: model(x), "shape"),
        (lambda model, x, y: None, "None"),
        (lambda model, x, y: squared(model, x, y).detach(), "no gradient"),
    ],
)
def test_a_loss_that_cannot_be_followed_is_named(loss, said: str) -> None:
    with pytest.raises(InputError, match=said):
        train(network(), batch, loss, steps=2, progress=False)


def test_clip_and_batches_are_checked() -> None:
    with pytest.raises(InputError, match="clip=-1"):
        train(network(), batch, squared, steps=2, clip=-1.0)
    with pytest.raises(InputError, match="batches is int"):
        train(network(), 5, squared, steps=2)  # type: ignore[arg-type]


def test_long_settings_are_cut_to_where_they_differ(tmp_path) -> None:
    def wide(last: int) -> nn.Module:
        return nn.Sequential(*(nn.Linear(3, 3) for _ in range(9)), nn.Linear(3, last))

    checkpoint.save(tmp_path / "c.pt", {}, {"model": repr(wide(1))})
    with pytest.raises(InputError, match=r"out_features=1.*out_features=2"):
        checkpoint.load(tmp_path / "c.pt", {"model": repr(wide(2))})


def test_an_optimiser_that_is_made_already_is_refused_in_words() -> None:
    model = torch.nn.Linear(1, 1)
    for given in (torch.optim.SGD(model.parameters(), lr=0.1), [{"params": list(model.parameters())}]):
        with pytest.raises(InputError, match="lambda parameters, lr"):
            train(model, [(torch.ones(1, 1),)], lambda m, x: m(x).sum(), steps=1, optimiser=given)
