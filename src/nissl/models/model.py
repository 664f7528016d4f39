"""A network with a way in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn

from nissl.errors import InputError, ModelError, unknown
from nissl.models.inputs import Inputs, Kind
from nissl.models.outputs import main_tensor
from nissl.models.prepare import encode, is_single, main_parameter, prepare, split_samples
from nissl.models.sites import Sites


class Model:
    """A network as it is, and what is needed to talk to it. Made by `nissl.load`.

    Attributes
    ----------
    module
        The `torch.nn.Module`, never rewritten.
    name
        What it is called in reports.
    sites
        Where activity can be read and changed; shapes are known after the first run.
    classes
        Names of the classes, or None.
    tokenizer, processor
        What turns text or pictures into tensors, or None.
    kind
        What it takes: `text`, `image` or `tensor`.
    traced
        Whether a first run has shown the shapes of the sites.

    Examples
    --------
    >>> import nissl, torch
    >>> net = nissl.load(torch.nn.Linear(3, 2), classes=["cat", "dog"])
    >>> net(torch.zeros(4, 3)).shape
    torch.Size([4, 2])
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        name: str = "",
        tokenizer: Any = None,
        processor: Any = None,
        classes: list[str] | None = None,
    ) -> None:
        self.module = module
        self.name = name or type(module).__name__
        self.tokenizer = tokenizer
        self.processor = processor
        self.classes = classes if classes is not None else _config_classes(module)
        self.main_name = main_parameter(module)
        self.kind: Kind = _kind(module, self.main_name, tokenizer, processor)
        self.sites = Sites.of(module)
        self.traced = False

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next((t.device for t in self._weights()), torch.device("cpu"))

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type of the weights."""
        return next((t.dtype for t in self._weights() if t.is_floating_point()), torch.float32)

    @property
    def config(self) -> Any:
        """Configuration of the text or vision model, where the module has one."""
        config = getattr(self.module, "config", None)
        return config.get_text_config() if config is not None and hasattr(config, "get_text_config") else config

    @property
    def context_length(self) -> int | None:
        """The most tokens a prompt may have; None where nothing limits it."""
        return next(
            (n for k in ("max_position_embeddings", "n_positions") if (n := getattr(self.config, k, None))), None
        )

    @property
    def vocabulary_size(self) -> int | None:
        """How many tokens there are; None for networks that take no tokens."""
        return getattr(self.config, "vocab_size", None)

    @property
    def pad_id(self) -> int:
        """The token id that fills up short prompts; it is masked, so any valid id serves."""
        for owner, key in (
            (self.tokenizer, "pad_token_id"),
            (self.config, "pad_token_id"),
            (self.tokenizer, "eos_token_id"),
        ):
            value = getattr(owner, key, None)
            if isinstance(value, int) and 0 <= value < (self.vocabulary_size or value + 1):
                return value
        return 0

    def prepare(self, inputs: Any) -> Inputs:
        """Make anything a person holds ready for one forward pass.

        Parameters
        ----------
        inputs
            Text, token ids, a PIL image, an array `(y, x, channel)`, a path, a floating-point tensor as the network
            takes it, a mapping of tensors, or a list of these. `Inputs` pass through.

        Raises
        ------
        InputError
            Nothing given, an empty prompt, one longer than the context, an unreadable picture, NaN, a wrong type.

        Examples
        --------
        >>> import nissl, torch
        >>> nissl.load(torch.nn.Linear(3, 2)).prepare([[1.0, 2.0, 3.0]]).main.shape
        torch.Size([1, 3])
        """
        return prepare(self, inputs)

    def is_single(self, inputs: Any) -> bool:
        """Whether `inputs` is one sample (a text, a picture, a prompt's ids) and not a batch, so that results need no
        sample axis.
        """
        return is_single(self, inputs)

    def batches(self, inputs: Any, batch_size: int) -> Iterator[Inputs]:
        """The samples of a corpus in batches ready for the network; a generator is read no further than needed."""
        if isinstance(inputs, Inputs | Mapping):
            ready = self.prepare(inputs)
            yield from (ready[i : i + batch_size] for i in range(0, ready.n, batch_size))
            return
        samples = iter(split_samples(self, inputs))
        while chunk := list(islice(samples, batch_size)):
            yield self.prepare(chunk)

    def forward(self, inputs: Any) -> Any:
        """One forward pass; returns whatever the module returns. Keeps the caller's gradient mode."""
        ready = self.prepare(inputs)
        if len(ready.tensors) == 1:
            return self.module(ready.main)
        return self.module(**ready.tensors)

    def __call__(self, inputs: Any) -> Tensor:
        """One forward pass; returns the logits, or the module's own main tensor."""
        output = main_tensor(self.forward(inputs))
        if output is None:
            raise ModelError(f"{self.name!r} returns no tensor; use model.forward(inputs) and read its output")
        return output

    def generate(self, prompts: Any, max_new_tokens: int = 20, **options: Any) -> Any:
        """Continue prompts; interventions in force act at every step.

        Parameters
        ----------
        prompts
            A text, token ids, or a list of these.
        max_new_tokens
            How many tokens to add at most.
        **options
            For the module's own `generate`, for example `do_sample=True`. Greedy by default.

        Returns
        -------
        With a tokenizer the text (prompt and continuation), a list for a list; else token ids `(sample, position)`,
        prompts padded on the left.

        Raises
        ------
        ModelError
            The network has no head that generates.
        """
        self._check_generates()
        ready = self.prepare(prompts)
        out = self.continued(ready, max_new_tokens, **options)
        if self.tokenizer is None:
            return out
        texts = self.tokenizer.batch_decode(out, skip_special_tokens=True)
        return texts[0] if isinstance(prompts, str) else texts

    def generate_ids(self, prompts: Any, max_new_tokens: int) -> list[list[int]]:
        """Prompts with their greedy continuation as token ids, without padding, up to and with the end-of-text
        token.
        """
        self._check_generates()
        ready = self.prepare(prompts)
        out = self.continued(ready, max_new_tokens)
        width = ready.main.shape[1]
        ends = getattr(self.module.generation_config, "eos_token_id", None)
        ends = {ends} if isinstance(ends, int) else set(ends or [])
        rows = []
        for i, length in enumerate(ready.lengths.tolist()):
            new = out[i, width:].tolist()
            stop = next((j + 1 for j, token in enumerate(new) if token in ends), len(new))
            rows.append(out[i, width - length : width].tolist() + new[:stop])
        return rows

    def _check_generates(self) -> None:
        if not getattr(self.module, "can_generate", lambda: False)():
            raise ModelError(f"{self.name!r} cannot generate: it has no language-model head")

    def continued(self, ready: Inputs, max_new_tokens: int, **options: Any) -> Tensor:
        """Token ids `(sample, position)` as the module's own `generate` gives them: for models that only decode with the
        prompt before them, padded on the left.
        """
        self._check_generates()
        ids, mask = _pad_left(ready)
        with torch.no_grad():
            return self.module.generate(  # type: ignore[operator]
                ids,
                attention_mask=mask,
                max_new_tokens=max_new_tokens,
                pad_token_id=self.pad_id,
                **{"do_sample": False, **options},
            )

    def encode(self, prompt: Any) -> list[int]:
        """The token ids of one prompt: a text or ids."""
        return encode(self, prompt)

    def class_index(self, name: str | int) -> int:
        """The index of a class by its name; upper and lower case are the same.

        Raises
        ------
        UnknownNameError
            No such class; the message lists the nearest.
        """
        count = len(self.classes) if self.classes else None
        if isinstance(name, int):
            if count is not None and not -count <= name < count:
                raise InputError(f"class {name} does not exist; {self.name!r} has {count}, so 0 to {count - 1}")
            return name % count if count else name
        if self.classes is None:
            raise InputError(f"{self.name!r} has no class names; give an index, or load it with classes=[...]")
        lower = [c.lower() for c in self.classes]
        if name.lower() in lower:
            return lower.index(name.lower())
        raise unknown("class", name, self.classes)

    def token_strings(self, ids: list[int]) -> list[str]:
        """Each token as text, spaces and all; the ids themselves without a tokenizer."""
        if self.tokenizer is None:
            return [str(i) for i in ids]
        return [self.tokenizer.decode([i]) for i in ids]

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Dropout and batch statistics off while the block runs; every module's own mode comes back afterwards."""
        training = [m for m in self.module.modules() if m.training]
        for module in training:
            module.training = False
        try:
            yield
        finally:
            for module in training:
                module.training = True

    def trace(self, inputs: Inputs) -> None:
        """Learn the shapes of all sites from one pass with the first sample; done once."""
        from nissl.models.trace import trace

        if not self.traced:
            trace(self, self.prepare(inputs)[:1])
            self.traced = True

    def _weights(self) -> Iterator[Tensor]:
        yield from self.module.parameters()
        yield from self.module.buffers()

    def __repr__(self) -> str:
        millions = sum(p.numel() for p in self.module.parameters()) / 1e6
        classes = f", {len(self.classes)} classes" if self.classes else ""
        return f"Model({self.name!r}, {millions:.2f} M weights, {len(self.sites)} sites{classes}, on {self.device})"


def _pad_left(inputs: Inputs) -> tuple[Tensor, Tensor]:
    """Token ids and mask with the padding moved to the left, as generation needs it."""
    ids = inputs.main
    if inputs.mask is None:
        return ids, torch.ones_like(ids)
    order = inputs.mask.long().argsort(dim=1, stable=True)  # padding (0) first, tokens in their order
    return ids.gather(1, order), inputs.mask.long().gather(1, order)


def _kind(module: nn.Module, main_name: str, tokenizer: Any, processor: Any) -> Kind:
    if tokenizer is not None or main_name == "input_ids":
        return "text"
    if processor is not None or main_name == "pixel_values":
        return "image"
    weighted = next((m for m in module.modules() if isinstance(m, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d)), None)
    return "image" if isinstance(weighted, nn.Conv2d) else "tensor"


def _config_classes(module: nn.Module) -> list[str] | None:
    """Class names from a Hugging Face classifier's configuration."""
    config = getattr(module, "config", None)
    names = getattr(config, "id2label", None)
    if not names or "Classification" not in type(module).__name__:
        return None
    return [names[i] for i in sorted(names)]
