"""Opening networks, finding sites, preparing inputs, and refusing what cannot be used."""

from __future__ import annotations

import io
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from torch import nn

import nissl
from nissl.errors import InputError, ModelError, UnknownNameError
from nissl.models import open_image
from nissl.specimens import ImageSpec

SPEC = ImageSpec(size=16, mean=(0.5,) * 3, std=(0.5,) * 3, crop=1.0, interpolation="bilinear")


@pytest.fixture(scope="module")
def gpt2_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny-gpt2"
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        n_embd=16, n_layer=1, n_head=2, vocab_size=40, n_positions=8, bos_token_id=1, eos_token_id=2
    )
    transformers.GPT2LMHeadModel(config).save_pretrained(folder)
    return folder


@pytest.fixture
def cnn() -> nissl.Model:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    return nissl.load(module, processor=SPEC, classes=["cat", "dog"])


# -------------------------------------------------------------------------------------------------------------- opening


def test_a_local_folder_of_safetensors(gpt2_folder: Path) -> None:
    model = nissl.load(str(gpt2_folder))
    assert type(model.module).__name__ == "GPT2LMHeadModel"
    assert not model.module.training
    assert model.name == "tiny-gpt2"
    assert model([[1, 2, 3]]).shape == (1, 3, 40)
    assert nissl.load(gpt2_folder, dtype="bfloat16").dtype == torch.bfloat16


def test_a_given_module_stays_the_same_object() -> None:
    module = nn.Linear(2, 2)
    assert nissl.load(module).module is module


def test_unknown_names_list_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="efficientnet-lite0"):
        nissl.load("efficientnet-lite")
    with pytest.raises(UnknownNameError, match="nearest: 'scenes'"):
        nissl.load("scene")
    with pytest.raises(InputError, match="no file or folder"):
        nissl.load("./nowhere")
    with pytest.raises(UnknownNameError, match="float16"):
        nissl.load(nn.Linear(2, 2), dtype="float17")
    with pytest.raises(InputError, match="device"):
        nissl.load(nn.Linear(2, 2), device="gpu7")


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no model"):
        nissl.load(tmp_path)


class Evil:
    def __reduce__(self):
        return (Path.touch, (Path("/tmp/nissl-was-here"),))


def test_a_pickle_that_wants_to_run_code_is_refused(tmp_path: Path) -> None:
    for name, dump in (
        ("zip.pt", lambda p: torch.save(Evil(), p)),
        ("raw.pkl", lambda p: p.write_bytes(pickle.dumps(Evil()))),
    ):
        path = tmp_path / name
        dump(path)
        with pytest.raises(ModelError, match="wants to run code"):
            nissl.load(path)
    assert not Path("/tmp/nissl-was-here").exists()


def test_weights_without_a_network_say_what_to_do(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(2)}, tmp_path / "weights.pt")
    with pytest.raises(InputError, match="weights_only=True"):
        nissl.load(tmp_path / "weights.pt")
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(InputError, match="is no model"):
        nissl.load(tmp_path / "notes.txt")


def test_nan_weights_are_named(cnn: nissl.Model) -> None:
    with torch.no_grad():
        cnn.module[4].weight[0, 0] = torch.nan
    with pytest.raises(ModelError, match=r"4\.weight"):
        cnn.trace(cnn.prepare(torch.randn(1, 3, 16, 16)))


def test_class_names(cnn: nissl.Model) -> None:
    assert cnn.class_index("Dog") == 1
    with pytest.raises(UnknownNameError, match="nearest: 'cat'"):
        cnn.class_index("cats")
    with pytest.raises(InputError, match="0 to 1"):
        cnn.class_index(2)
    with pytest.raises(InputError, match="3 class names"):
        nissl.load(cnn.module, classes=["a", "b", "c"])


# ---------------------------------------------------------------------------------------------------------------- sites


def test_names_globs_and_the_nearest(cnn: nissl.Model) -> None:
    assert [s.name for s in cnn.sites.find(["0:in", "logits", "[01]"])] == ["0:in", "logits", "0", "1"]
    assert "1:in" in cnn.sites
    assert "9" not in cnn.sites
    with pytest.raises(InputError, match="no site asked for"):
        cnn.sites.find([])
    with pytest.raises(UnknownNameError, match="matches nothing"):
        cnn.sites.find("conv*")
    assert "5 modules" not in repr(cnn.sites)


def test_the_input_of_a_module_called_with_keywords_only() -> None:
    class Inner(nn.Module):
        def forward(self, *, scale: float, x: torch.Tensor) -> torch.Tensor:
            return x * scale

    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Inner()

        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"doubled": self.inner(scale=2.0, x=x)}

    model = nissl.load(Outer())
    with nissl.intervene(model, {"inner:in": nissl.Clamp(3.0)}):
        assert model(torch.ones(1, 2)).tolist() == [[6.0, 6.0]]
    with nissl.intervene(model, {"logits": nissl.Clamp(7.0)}):
        assert model.forward(torch.ones(1, 2))["doubled"].tolist() == [[7.0, 7.0]]


# ----------------------------------------------------------------------------------------------------------------- text


def test_token_ids_in_every_form(gpt2_folder: Path) -> None:
    model = nissl.load(gpt2_folder)
    expected = model([[1, 2, 3]])
    for ids in (
        [1, 2, 3],
        torch.tensor([1, 2, 3]),
        np.array([[1, 2, 3]]),
        [torch.tensor([1, 2, 3])],
        {"input_ids": [[1, 2, 3]]},
    ):
        torch.testing.assert_close(model(ids), expected)
    ready = model.prepare([[1, 2, 3], [4]])
    assert ready.mask.tolist() == [[True] * 3, [True, False, False]]
    assert ready.lengths.tolist() == [3, 1]
    assert ready.tokens == [["1", "2", "3"], ["4"]]
    torch.testing.assert_close(model(ready)[0], expected[0])
    torch.testing.assert_close(model(ready[1:])[0, 0], model([[4]])[0, 0])


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ([], "no prompt"),
        ([[1], []], "prompt 1 is empty"),
        ([list(range(9))], "9 tokens"),
        ([[1, 40]], "0 to 39"),
        ([[1, -1]], "-1"),
        ("hello", "no tokenizer"),
        ([[1.5]], "token ids"),
        ([None], "NoneType"),
    ],
)
def test_prompts_that_cannot_be_used(gpt2_folder: Path, prompts: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        nissl.load(gpt2_folder).prepare(prompts)


def test_generation_needs_a_head(gpt2_folder: Path, cnn: nissl.Model) -> None:
    model = nissl.load(gpt2_folder)
    assert model.generate([[1, 2], [3]], max_new_tokens=3).shape == (2, 5)
    with pytest.raises(ModelError, match="cannot generate"):
        cnn.generate("hello")


# ------------------------------------------------------------------------------------------------------------- pictures


def saved(tmp_path: Path, array: np.ndarray, name: str, **options: object) -> Path:
    Image.fromarray(array).save(tmp_path / name, **options)
    return tmp_path / name


def test_every_kind_of_picture_becomes_rgb(tmp_path: Path) -> None:
    grey = np.linspace(0, 255, 20 * 30).reshape(20, 30).astype(np.uint8)
    colour = np.stack([grey, grey[::-1], grey.T.reshape(20, 30)], -1)
    expected = np.stack([grey] * 3, -1)
    assert np.array_equal(open_image(saved(tmp_path, grey, "grey.png")), expected)
    assert np.array_equal(open_image(saved(tmp_path, grey.astype(np.uint16) * 257, "deep.png")), expected)
    assert np.array_equal(open_image(saved(tmp_path, grey.astype(np.uint16) * 257, "deep.tiff")), expected)
    assert np.array_equal(open_image(grey / 255), expected)
    assert np.array_equal(open_image(grey.astype(np.uint16) * 257), expected)
    palette = Image.fromarray(colour).quantize(64)
    palette.save(tmp_path / "palette.png")
    assert np.array_equal(open_image(tmp_path / "palette.png"), palette.convert("RGB"))
    clear = np.dstack([colour, np.zeros((20, 30), np.uint8)])
    assert np.unique(open_image(saved(tmp_path, clear, "clear.png"))).tolist() == [255]


def test_exif_rotation_is_carried_out(tmp_path: Path) -> None:
    array = np.zeros((20, 40, 3), np.uint8)
    array[:, :20] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    path = saved(tmp_path, array, "turned.png", exif=exif)
    upright = np.asarray(open_image(path))
    assert upright.shape == (40, 20, 3)
    assert upright[:20].min() == 255
    assert upright[20:].max() == 0


def huge_png() -> bytes:
    """A 20,000 x 20,000 picture in a few hundred bytes."""
    buffer = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(buffer, "PNG", optimize=False)
    return buffer.getvalue()


def test_pictures_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("I am no picture")
    whole = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(whole, "PNG")
    (tmp_path / "cut.png").write_bytes(whole.getvalue()[:2000])
    (tmp_path / "huge.png").write_bytes(huge_png())
    (tmp_path / "empty.jpg").write_bytes(b"")
    for path, message in (
        (tmp_path / "text.jpg", "no picture"),
        (tmp_path / "empty.jpg", "no picture"),
        (tmp_path / "cut.png", "damaged"),
        (tmp_path / "huge.png", "megapixels"),
        (tmp_path / "txt.jpg", "nearest: 'text.jpg'"),
        (tmp_path, "is a folder"),
        (saved(tmp_path, np.zeros((1, 1, 3), np.uint8), "dot.png"), "1 x 1"),
        (np.full((9, 9), 2.0), "from 2 to 2"),
        (np.full((9, 9), np.nan), "NaN"),
        (np.zeros((9, 9, 7), np.uint8), "9x9x7"),
        (np.zeros((9, 9), np.int64), "int64"),
    ):
        with pytest.raises(InputError, match=message):
            open_image(path)


def test_pictures_reach_the_network_the_same_way_in_every_form(cnn: nissl.Model, tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)
    path = saved(tmp_path, array, "photo.png")
    expected = cnn(path)
    for form in (array, Image.fromarray(array), str(path), [path], array[None], torch.as_tensor(array)):
        torch.testing.assert_close(cnn(form), expected)
    assert cnn([path, array]).shape == (2, 2)
    frame = cnn.prepare(path).frames[0]
    assert (frame.left, frame.top, frame.right, frame.bottom) == (10, 0, 50, 40)
    assert list(cnn.batches([array] * 5, 2))[-1].n == 1
    loader = torch.utils.data.DataLoader(
        torch.utils.data.TensorDataset(torch.randn(5, 3, 16, 16), torch.arange(5)), batch_size=4
    )
    assert [b.n for b in cnn.batches(loader, 3)] == [3, 2]


def test_tensors_that_cannot_be_used(cnn: nissl.Model) -> None:
    with pytest.raises(InputError, match="NaN"):
        cnn.prepare(torch.full((1, 3, 16, 16), torch.nan))
    with pytest.raises(InputError, match="empty"):
        cnn.prepare(torch.zeros(0, 3, 16, 16))
    with pytest.raises(InputError, match="cannot take an input of shape"):
        cnn.trace(cnn.prepare(torch.zeros(1, 5, 16, 16)))
    bare = nissl.load(cnn.module)
    with pytest.raises(InputError, match="processor="):
        bare.prepare(np.zeros((20, 20, 3), np.uint8))


# -------------------------------------------------------------------------------------------------------------- targets


def test_targets(cnn: nissl.Model) -> None:
    inputs = cnn.prepare(torch.randn(3, 3, 16, 16))
    output = cnn(inputs)
    resolve = nissl.models.resolve_target
    assert [t.label for t in resolve(cnn, ["dog", 0], inputs)] == ["dog", "cat"]
    torch.testing.assert_close(resolve(cnn, "dog", inputs)[0].score(output, inputs), output[:, 1])
    each = torch.tensor([0, 1, 0])
    torch.testing.assert_close(resolve(cnn, each, inputs)[0].score(output, inputs), output[torch.arange(3), each])
    torch.testing.assert_close(resolve(cnn, None, inputs)[0].score(output, inputs), output.max(1).values)
    torch.testing.assert_close(resolve(cnn, lambda o: o.sum(1), inputs)[0].score(output, inputs), output.sum(1))
    for target, message in (
        ("bird", "unknown class"),
        (5, "does not exist"),
        (torch.arange(2), "2 targets"),
        (1.5, "float"),
        ([], "empty"),
    ):
        with pytest.raises((InputError, UnknownNameError), match=message):
            resolve(cnn, target, inputs)[0].score(output, inputs)


def test_a_next_token_is_read_at_each_samples_last_real_position(gpt2_folder: Path) -> None:
    model = nissl.load(gpt2_folder)
    inputs = model.prepare([[1, 2, 3], [4, 5]])
    score = nissl.models.resolve_target(model, 7, inputs)[0].score(model(inputs), inputs)
    torch.testing.assert_close(score, torch.stack([model([[1, 2, 3]])[0, -1, 7], model([[4, 5]])[0, -1, 7]]))
