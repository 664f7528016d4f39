"""From what a person holds (text, token ids, a picture, an array, a path, a batch of these) to what the network
takes.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from nissl.errors import InputError
from nissl.models.images import Frame, open_image, to_pixels
from nissl.models.inputs import Inputs, Kind
from nissl.specimens import ImageSpec

if TYPE_CHECKING:
    from nissl.models.model import Model


def prepare(model: Model, inputs: Any) -> Inputs:
    """Make `inputs` ready for one forward pass of `model`; see `Model.prepare`."""
    if isinstance(inputs, Inputs):
        return inputs.to(model.device)
    if isinstance(inputs, Mapping):
        return _from_mapping(model, inputs)
    if model.kind == "text":
        return _from_text(model, inputs)
    if model.kind == "image" and not _is_network_ready(inputs):
        return _from_pictures(model, inputs)
    return _from_tensor(model, inputs)


def split_samples(model: Model, inputs: Any) -> Iterable[Any]:
    """The samples of a corpus, one by one; generators and data loaders stay lazy."""
    if is_single(model, inputs):
        return [inputs]
    if isinstance(inputs, Tensor | np.ndarray):
        return torch.as_tensor(inputs) if _is_network_ready(inputs) else inputs
    if isinstance(inputs, DataLoader):
        return _rows(inputs)
    if not isinstance(inputs, Iterable):
        raise InputError(
            f"{type(inputs).__name__} is no corpus; give a list, an array, a generator or a data loader of samples"
        )
    return inputs


def _rows(loader: DataLoader) -> Iterator[Any]:
    """The samples of a data loader; of (picture, label) pairs the first part."""
    for batch in loader:
        yield from batch[0] if isinstance(batch, list | tuple) else batch


def main_parameter(module: torch.nn.Module) -> str:
    """The name of forward's first argument, which carries the main tensor."""
    named = getattr(module, "main_input_name", None)
    if named:
        return named
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    names = [p.name for p in inspect.signature(module.forward).parameters.values() if p.kind in kinds]
    return names[0] if names else ""


def is_single(model: Model, inputs: Any) -> bool:
    """Whether a person gave one sample, and not a batch: one text, one picture, one prompt's ids."""
    if isinstance(inputs, str | Path | Image.Image) or (model.kind == "text" and _is_ids(inputs)):
        return True
    if isinstance(inputs, Tensor | np.ndarray):
        return model.kind == "image" and inputs.ndim <= 3
    return False


def _is_network_ready(inputs: Any) -> bool:
    """A floating-point tensor `(sample, channel, y, x)` is taken as it is; anything else goes through the preparation
    of pictures.
    """
    if isinstance(inputs, Tensor):
        return inputs.is_floating_point() and inputs.ndim in (3, 4)
    if isinstance(inputs, np.ndarray):
        return np.issubdtype(inputs.dtype, np.floating) and inputs.ndim == 4 and inputs.shape[1] in (1, 3)
    if isinstance(inputs, list | tuple) and inputs:
        return all(isinstance(i, Tensor) and i.is_floating_point() and i.ndim == 3 for i in inputs)
    return False


# ---------------------------------------------------------------------------------------------------------------- text


def _from_text(model: Model, inputs: Any) -> Inputs:
    if isinstance(inputs, str) or _is_ids(inputs):
        inputs = [inputs]
    samples = [inputs] if isinstance(inputs, Path) else list(inputs)
    if not samples:
        raise InputError("no prompt given; give a text, token ids, or a list of them")
    rows = [encode(model, sample, i) for i, sample in enumerate(samples)]
    longest = max(map(len, rows))
    ids = torch.full((len(rows), longest), model.pad_id)
    mask = torch.zeros(len(rows), longest, dtype=torch.bool)
    for i, row in enumerate(rows):  # padding goes to the right, so that position 0 is the first token of every sample
        ids[i, : len(row)] = torch.tensor(row)
        mask[i, : len(row)] = True
    tensors = {model.main_name: ids}
    if "attention_mask" in inspect.signature(model.module.forward).parameters:
        tensors["attention_mask"] = mask.long()
    elif not mask.all():
        raise InputError("this network takes no attention_mask, so texts of different length cannot share a batch")
    padded = mask if not mask.all() else None
    tokens = [model.token_strings(row) for row in rows]
    return Inputs(tensors, model.main_name, "text", padded, tokens).to(model.device)


def encode(model: Model, sample: Any, index: int = 0, spare: int = 0) -> list[int]:
    """The token ids of one prompt, checked: not empty, within the vocabulary, and with `spare` more tokens within the
    context.
    """
    row = _ids(model, sample, index)
    limit, vocabulary = model.context_length, model.vocabulary_size
    if limit is not None and len(row) + spare > limit:
        more = f" and {spare} to generate" if spare else ""
        raise InputError(
            f"prompt {index} has {len(row)} tokens{more}, the context of {model.name!r} holds {limit}; shorten or split it"
        )
    if vocabulary is not None and not 0 <= min(row) <= max(row) < vocabulary:
        wrong = min(row) if min(row) < 0 else max(row)
        raise InputError(f"prompt {index} holds token id {wrong}; allowed: 0 to {vocabulary - 1}")
    return row


def _ids(model: Model, sample: Any, index: int) -> list[int]:
    if isinstance(sample, str):
        if model.tokenizer is None:
            raise InputError(
                f"{model.name!r} has no tokenizer, so text cannot be read; give token ids, or load it with tokenizer=..."
            )
        if not sample.strip():
            raise InputError(f"prompt {index} is empty; give at least one word")
        return list(model.tokenizer(sample)["input_ids"])
    if isinstance(sample, Sequence | Tensor | np.ndarray) and len(sample) == 0:
        raise InputError(f"prompt {index} is empty; give at least one token")
    if not _is_ids(sample):
        raise InputError(f"prompt {index} is {type(sample).__name__}; allowed: a text, or a sequence of token ids")
    return np.asarray(sample).tolist()


def _is_ids(sample: Any) -> bool:
    if isinstance(sample, Tensor):
        return sample.ndim == 1 and not sample.is_floating_point()
    if isinstance(sample, np.ndarray):
        return sample.ndim == 1 and np.issubdtype(sample.dtype, np.integer)
    return (
        isinstance(sample, Sequence)
        and not isinstance(sample, str)
        and len(sample) > 0
        and all(isinstance(i, int | np.integer) for i in sample)
    )


# ------------------------------------------------------------------------------------------------------------ pictures


def _from_pictures(model: Model, inputs: Any) -> Inputs:
    samples = [inputs] if is_single(model, inputs) else list(inputs)
    if not samples:
        raise InputError("no picture given; give a photograph, a path, an array, or a list of them")
    if model.processor is None:
        raise InputError(
            f"{model.name!r} does not say how it wants its pictures; load it with processor=nissl.specimens.ImageSpec(...), a Hugging "
            "Face image processor, or give a prepared floating-point tensor (sample, channel, y, x)"
        )
    images = [open_image(s.numpy() if isinstance(s, Tensor) else s) for s in samples]
    pairs = [_pixels(model.processor, image) for image in images]
    batch = torch.stack([pixels for pixels, _ in pairs]).to(model.dtype)
    return Inputs({model.main_name: batch}, model.main_name, "image", frames=[f for _, f in pairs]).to(model.device)


def _pixels(processor: Any, image: Image.Image) -> tuple[Tensor, Frame]:
    if isinstance(processor, ImageSpec):
        return to_pixels(image, processor)
    whole = Frame(image.width, image.height, 0.0, 0.0, float(image.width), float(image.height))
    if hasattr(processor, "image_mean"):  # a Hugging Face image processor
        pixels = processor(images=image, return_tensors="pt")["pixel_values"][0]
        return pixels, _processor_frame(processor, image, whole)
    return processor(image), whole  # any callable from picture to tensor


def _processor_frame(processor: Any, image: Image.Image, whole: Frame) -> Frame:
    """Which part of the photograph a Hugging Face processor keeps: it resizes, then may crop the centre."""
    if not getattr(processor, "do_center_crop", False):
        return whole
    size, crop = dict(processor.size or {}), dict(processor.crop_size)
    if "shortest_edge" in size:
        scale_x = scale_y = size["shortest_edge"] / min(image.size)
    else:
        scale_x, scale_y = size["width"] / image.width, size["height"] / image.height
    half_w, half_h = crop["width"] / scale_x / 2, crop["height"] / scale_y / 2
    cx, cy = image.width / 2, image.height / 2
    return Frame(image.width, image.height, cx - half_w, cy - half_h, cx + half_w, cy + half_h)


# ------------------------------------------------------------------------------------------------------------- tensors


def _from_tensor(model: Model, inputs: Any) -> Inputs:
    if isinstance(inputs, list | tuple) and inputs and all(isinstance(i, Tensor | np.ndarray) for i in inputs):
        shapes = {tuple(i.shape) for i in inputs}
        if len(shapes) > 1:
            raise InputError(f"the samples differ in shape: {sorted(shapes)}; give samples of one shape")
        inputs = torch.stack([torch.as_tensor(i) for i in inputs])
    try:
        tensor = torch.as_tensor(inputs if isinstance(inputs, Tensor) else np.asarray(inputs))
    except (TypeError, ValueError) as error:
        raise InputError(f"{type(inputs).__name__} cannot be made a tensor for {model.name!r}: {error}") from None
    if tensor.numel() == 0:
        raise InputError(f"the input is empty: shape {tuple(tensor.shape)}")
    if tensor.is_floating_point():
        if not torch.isfinite(tensor).all():
            raise InputError("the input holds NaN or infinite numbers")
        tensor = tensor.to(model.dtype)
    if model.kind == "image" and tensor.ndim == 3:
        tensor = tensor[None]
    if tensor.ndim == 0:
        raise InputError("the input is a single number; give a tensor whose first axis is the sample")
    return Inputs({model.main_name: tensor}, model.main_name, model.kind).to(model.device)


def _from_mapping(model: Model, inputs: Mapping[str, Any]) -> Inputs:
    tensors = {k: torch.as_tensor(v) for k, v in inputs.items() if v is not None}
    main = next((n for n in (model.main_name, "input_ids", "pixel_values") if n in tensors), next(iter(tensors), ""))
    if not main:
        raise InputError("an empty mapping of inputs; give at least one tensor")
    kind: Kind = {"input_ids": "text", "pixel_values": "image"}.get(main, model.kind)  # type: ignore[assignment]
    if kind != "text":
        return Inputs(tensors, main, kind).to(model.device)
    mask = tensors.get("attention_mask")
    real = torch.ones_like(tensors[main], dtype=torch.bool) if mask is None else mask.bool()
    tokens = [model.token_strings(row[keep].tolist()) for row, keep in zip(tensors[main], real, strict=True)]
    return Inputs(tensors, main, kind, None if real.all() else real, tokens).to(model.device)
