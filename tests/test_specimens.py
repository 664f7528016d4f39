"""What comes with the package: the real network on real photographs, scenes whose truth is consistent, digits, the
classifier."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import nissl
from nissl.errors import InputError, UnknownNameError
from nissl.specimens import digits, load_model, model_names, photo, photos, scene_input, scenes, train_scene_classifier


def test_the_real_network_sees_what_is_there(efficientnet: nissl.Model) -> None:
    for name, classes in {
        "coffee": {"espresso"}, "camera": {"tripod"}, "chelsea": {"tiger cat", "Egyptian cat", "tabby"}, "rocket": {"missile"}, "flower": {"daisy"},
    }.items():  # fmt: skip
        assert efficientnet.classes[int(efficientnet(photo(name)).argmax())] in classes


def test_class_names_are_a_thousand_different_ones() -> None:
    names = load_model("efficientnet-lite0").classes
    assert len(set(names)) == 1000
    known = {
        0: "tench",
        1: "goldfish",
        134: "crane (bird)",
        285: "Egyptian cat",
        517: "crane (machine)",
        954: "banana",
        967: "espresso",
        999: "toilet tissue",
    }
    assert {i: names[i] for i in known} == known


def test_photographs_and_names() -> None:
    assert all(photo(p).mode == "RGB" for p in photos())
    with pytest.raises(UnknownNameError, match="nearest: 'coffee'"):
        photo("cofee")
    with pytest.raises(UnknownNameError, match="efficientnet-lite0"):
        load_model("efficientnet")
    assert set(model_names()) >= {"efficientnet-lite0", "scenes"}


def test_digits() -> None:
    sample = digits()
    assert sample.images.shape == (5000, 28, 28)
    assert np.bincount(sample.labels).tolist() == [500] * 10


@given(seed=st.integers(0, 10_000), most=st.integers(1, 4), size=st.sampled_from([32, 48, 64, 100]))
@settings(max_examples=15, deadline=None)
def test_the_truth_about_scenes_is_consistent(seed: int, most: int, size: int) -> None:
    drawn = scenes(12, seed=seed, n_objects=(1, most), size=size)
    table = drawn.objects
    assert drawn.images.shape == (12, size, size, 3)
    for row in table.to_dict("records"):
        mask = drawn.masks[row["sample"], row["object"]]
        y, x = np.nonzero(mask)
        assert len(y) > 4
        assert (x.min(), y.min(), x.max() + 1, y.max() + 1) == (row["left"], row["top"], row["right"], row["bottom"])
        assert drawn.concept_mask(row["colour"])[row["sample"]][mask].all()
    assert not table.groupby("sample")["shape"].apply(lambda s: s.duplicated().any()).any()
    grounds = sum(drawn.concept_mask(f"{b} background") for b in np.unique(drawn.background))
    np.testing.assert_array_equal(grounds, drawn.labels == 0)
    assert (drawn.concepts[list(table["shape"].unique())].sum().sum()) == len(table)


def test_same_seed_same_pictures_and_a_longer_call_only_adds() -> None:
    few, many = scenes(30, seed=5), scenes(150, seed=5)
    np.testing.assert_array_equal(few.images, many.images[:30])
    assert few.captions == many.captions[:30]
    part = many[100:103]
    np.testing.assert_array_equal(part.masks.any(1), many.labels[100:103] > 0)
    assert part.captions == many.captions[100:103]
    assert not np.array_equal(scenes(30, seed=6).images, few.images)


def test_captions_name_objects_from_left_to_right() -> None:
    drawn = scenes(40, seed=1, n_objects=(2, 2), textures=["plain", "stripes"])
    for i, caption in enumerate(drawn.captions):
        rows = drawn.objects[drawn.objects["sample"] == i].sort_values("x")
        words = [
            f"{'striped ' if t == 'stripes' else ''}{s}" for t, s in zip(rows["texture"], rows["shape"], strict=True)
        ]
        assert caption.index(words[0]) < caption.index(" left of ") < caption.rindex(words[1])


def test_colours_are_what_they_are_called() -> None:
    drawn = scenes(60, seed=2, textures=["plain"], n_objects=(1, 1))
    for colour, channel in (("red", 0), ("green", 1), ("blue", 2)):
        pixels = drawn.images[drawn.concept_mask(colour)]
        assert (pixels.mean(0).argmax()) == channel


def test_a_confounded_background() -> None:
    tie = {"circle": "grass", "square": "bricks"}
    options = dict(shapes=["circle", "square"], backgrounds=["grass", "bricks"], n_objects=(1, 1), seed=0)
    biased = scenes(500, background_given_shape=tie, bias=0.9, **options)
    agree = biased.objects["shape"].map(tie).to_numpy() == biased.background
    assert 0.91 < agree.mean() < 0.98  # 0.9 tied, and half of the rest by chance
    free = scenes(500, **options)
    assert 0.4 < (free.objects["shape"].map(tie).to_numpy() == free.background).mean() < 0.6


def test_the_classifier_learns_and_is_kept(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    net = nissl.load("scenes")
    test = scenes(500, seed=123)
    with torch.no_grad():
        right = (net(test.images) > 0).numpy() == test.shape_labels()
        same = net(scene_input(test.images[:4]))
    assert right.mean() > 0.95
    torch.testing.assert_close(net(test.images[:4]), same, atol=1e-5, rtol=1e-5)


def test_training_is_repeatable() -> None:
    few = scenes(200, seed=0, shapes=["circle", "cross"], n_objects=(1, 1))
    a, b = (train_scene_classifier(few, few.shape_labels(["circle", "cross"]), epochs=1) for _ in range(2))
    assert all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (dict(shapes=["circel"]), UnknownNameError, "circle"),
        (dict(n_objects=(0, 2)), InputError, "n_objects"),
        (dict(n_objects=(1, 3), shapes=["circle"]), InputError, "unique_shapes"),
        (dict(size=8), InputError, "32"),
        (dict(bias=2.0), InputError, "probability"),
        (dict(background_given_shape={"circle": "gras"}), UnknownNameError, "grass"),
        (dict(colours=[]), InputError, "at least one"),
    ],
)
def test_bad_requests(options: dict, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        scenes(3, **options)
