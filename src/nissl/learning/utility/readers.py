"""How utilities are read off a network, and outputs drawn from it: classifiers, language models, any module that scores tokens."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Protocol

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from nissl.errors import InputError, ModelError
from nissl.models import Model, load
from nissl.models.outputs import main_tensor

NOTHING = -1  # in a row of tokens, after its end
Choose = Callable[[Float[Tensor, "row option"]], Int[Tensor, "row"]]


class Reader(Protocol):
    """What a view needs of a network."""

    def token_logits(
        self, inputs: Any, outputs: Int[Tensor, "sample position"]
    ) -> Float[Tensor, "sample position option"]:
        """Logits of the options at every position of an output, given the tokens before it."""
        ...

    def draw(
        self, inputs: Any, n: int, log_q: Callable[[Tensor], Tensor] | None, seed: int
    ) -> Int[Tensor, "sample n position"]:
        """Outputs drawn token by token from the probabilities that `log_q` makes of logits; the best token each time where
        it is None. `NOTHING` follows the end.
        """
        ...

    def encode(self, outputs: Sequence[Any]) -> Int[Tensor, "sample position"]:
        """Outputs as a person writes them, as rows of tokens."""
        ...

    def show(self, row: Int[Tensor, "position"]) -> Any:
        """A row of tokens as a person would read it."""
        ...


class ClassReader:
    """A classifier: an output is one class."""

    def __init__(self, model: Model) -> None:
        self.model = model

    def token_logits(self, inputs: Any, outputs: Int[Tensor, "sample position"] | None = None) -> Tensor:
        """Logits of the classes."""
        with torch.no_grad(), self.model.evaluating():
            logits = self.model(self.model.prepare(inputs))
        if logits.dim() != 2:
            raise InputError(
                f"{self.model.name!r} gives logits of shape {tuple(logits.shape)}, not (sample, class); for a network that scores "
                "every token of an output give length="
            )
        return logits[:, None]

    def draw(self, inputs: Any, n: int, log_q: Callable[[Tensor], Tensor] | None, seed: int) -> Tensor:
        """Classes."""
        logits = self.token_logits(inputs)[:, 0]
        rows = logits.repeat_interleave(n, 0)
        return _chooser(log_q, seed, logits.device)(rows).view(-1, n, 1)

    def encode(self, outputs: Sequence[Any]) -> Tensor:
        """Class names or indices."""
        return torch.tensor(
            [[self.model.class_index(o) if isinstance(o, str) else _whole(o)] for o in _several(outputs)]
        )

    def show(self, row: Tensor) -> int:
        """The index of the class."""
        return int(row[0])


class TokenReader:
    """Any module `(inputs, tokens) -> logits (sample, position, option)` that scores each token given those before it."""

    def __init__(self, module: nn.Module, length: int, end: int | None) -> None:
        self.module, self.length, self.end = module, length, end

    def token_logits(self, inputs: Any, outputs: Int[Tensor, "sample position"]) -> Tensor:
        """Logits, the module in evaluation mode."""
        training = self.module.training
        self.module.eval()
        try:
            with torch.no_grad():
                logits = main_tensor(self.module(inputs, outputs.clamp_min(0)))
        finally:
            self.module.train(training)
        if logits is None or logits.shape[:2] != outputs.shape:
            found = None if logits is None else tuple(logits.shape)
            raise ModelError(f"{type(self.module).__name__} gave {found} for outputs of shape {tuple(outputs.shape)}")
        return logits

    def draw(self, inputs: Any, n: int, log_q: Callable[[Tensor], Tensor] | None, seed: int) -> Tensor:
        """Outputs of at most `length` tokens."""
        many = torch.as_tensor(inputs).repeat_interleave(n, 0)
        choose = _chooser(log_q, seed, many.device)
        tokens = torch.zeros(len(many), self.length, dtype=torch.long, device=many.device)
        ended = torch.zeros(len(many), dtype=torch.bool, device=many.device)
        for t in range(self.length):
            picked = choose(self.token_logits(many, tokens.clamp_min(0))[:, t])
            tokens[:, t] = picked.where(~ended, NOTHING)
            if self.end is not None:
                ended |= picked == self.end
        return tokens.view(-1, n, self.length)

    def encode(self, outputs: Sequence[Any]) -> Tensor:
        """Token ids, the end added where there is one and room for it."""
        rows = [_ids(o) for o in _several(outputs)]
        if self.end is not None:
            if late := next((r for r in rows if self.end in r[:-1]), None):
                raise InputError(f"output {late} goes on after its end, token {self.end}")
            rows = [[*r, self.end] if len(r) < self.length and r[-1:] != [self.end] else r for r in rows]
        if any(len(r) > self.length or not r for r in rows):
            raise InputError(
                f"outputs have {min(map(len, rows))} to {max(map(len, rows))} tokens; allowed: 1 to {self.length}"
            )
        return _rectangle(rows)

    def show(self, row: Tensor) -> tuple[int, ...]:
        """Token ids, without the end."""
        return tuple(t for t in row.tolist() if t not in (NOTHING, self.end))


class TextReader:
    """A language model of Hugging Face, with or without an encoder."""

    def __init__(self, model: Model, length: int) -> None:
        self.model, self.length = model, length
        config: Any = model.module.config
        self.encodes = bool(getattr(config, "is_encoder_decoder", False))
        self.start = getattr(config, "decoder_start_token_id", None) or 0
        ends = getattr(model.module.generation_config, "eos_token_id", None)
        self.ends = {ends} if isinstance(ends, int) else set(ends or [])

    def token_logits(self, inputs: Any, outputs: Int[Tensor, "sample position"]) -> Tensor:
        """Logits of each token given the prompt and the tokens before it."""
        ready = self.model.prepare(inputs)
        tokens = outputs.clamp_min(0).to(ready.main.device)
        self._check_fits(tokens, 0 if self.encodes else ready.main.shape[1])
        with torch.no_grad(), self.model.evaluating():
            if self.encodes:
                start = torch.full_like(tokens[:, :1], self.start)
                given = {"decoder_input_ids": torch.cat([start, tokens[:, :-1]], 1)}
                return self.model.module(**{**ready.tensors, **given}).logits
            lengths = ready.lengths.to(tokens.device)
            ids = torch.cat([ready.main, torch.zeros_like(tokens)], 1)
            place = lengths[:, None] + torch.arange(tokens.shape[1], device=tokens.device)
            ids = ids.scatter(1, place, tokens)  # each output right after its prompt, whatever the prompt's length
            mask = torch.arange(ids.shape[1], device=ids.device) < lengths[:, None] + tokens.shape[1]
            logits = self.model.module(input_ids=ids, attention_mask=mask.long()).logits
        return logits.gather(1, (place - 1)[..., None].expand(-1, -1, logits.shape[-1]))

    def draw(self, inputs: Any, n: int, log_q: Callable[[Tensor], Tensor] | None, seed: int) -> Tensor:
        """Continuations of at most `length` tokens, by the model's own `generate`."""
        from transformers import LogitsProcessorList

        from nissl.learning.utility.processor import UtilityLogitsProcessor

        ready = self.model.prepare(inputs)
        self._check_fits(None, 0 if self.encodes else ready.main.shape[1])
        options: dict[str, Any] = {"do_sample": False}
        if log_q is not None:
            # What a checkpoint recommends for sampling (top_k=50 where it says nothing) would change the probabilities.
            options = {"do_sample": True, "top_k": 0, "top_p": 1.0, "temperature": 1.0, "num_return_sequences": n}
            options["logits_processor"] = LogitsProcessorList([UtilityLogitsProcessor(log_q=log_q)])
        devices = [ready.main.device] if ready.main.is_cuda else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)
            out = self.model.continued(ready, self.length, **options)
        new = out[:, 1 if self.encodes else ready.main.shape[1] :]
        rows = [self._until_end(r) for r in new.tolist()]
        tokens = _rectangle(rows).view(ready.n, -1, max(map(len, rows)))
        return tokens if log_q is not None else tokens.expand(-1, n, -1)

    def encode(self, outputs: Sequence[Any]) -> Tensor:
        """Texts or token ids; no end is added, so that a continuation may go on."""
        if any(isinstance(o, str) for o in _several(outputs)) and self.model.tokenizer is None:
            raise InputError(f"{self.model.name!r} has no tokenizer; give token ids")
        rows = [
            self.model.tokenizer(o, add_special_tokens=False)["input_ids"] if isinstance(o, str) else _ids(o)
            for o in outputs
        ]
        if any(not r for r in rows):
            raise InputError("an output holds no tokens")
        return _rectangle(rows)

    def show(self, row: Tensor) -> Hashable:
        """The text, or token ids where there is no tokenizer, without the end."""
        ids = [t for t in row.tolist() if t != NOTHING and t not in self.ends]
        return tuple(ids) if self.model.tokenizer is None else self.model.tokenizer.decode(ids)

    def _check_fits(self, tokens: Tensor | None, prompt: int) -> None:
        config: Any = self.model.module.config
        size = getattr(config, "vocab_size", None)
        if tokens is not None and size is not None and int(tokens.max()) >= size:
            raise InputError(f"token {int(tokens.max())} does not exist; the vocabulary has {size}, so 0 to {size - 1}")
        room = getattr(config, "max_position_embeddings", None)
        length = self.length if tokens is None else tokens.shape[1]
        if isinstance(room, int) and not self.encodes and prompt + length > room:
            raise InputError(
                f"{prompt} tokens of prompt and {length} of output do not fit into the model's {room} positions; give a smaller length"
            )

    def _until_end(self, row: list[int]) -> list[int]:
        stop = next((j + 1 for j, token in enumerate(row) if token in self.ends), len(row))
        return row[:stop]


def open_reader(model: Any, length: int | None, end: int | None) -> Reader:
    """The reader that suits a network."""
    if isinstance(model, nn.Module) and length is not None and not hasattr(model, "generation_config"):
        if len(inspect.signature(model.forward).parameters) < 2:
            raise InputError(
                f"{type(model).__name__} takes no tokens; a module with length= is called as module(inputs, tokens)"
            )
        return TokenReader(model, length, end)
    loaded: Model = load(model)
    if getattr(loaded.module, "can_generate", lambda: False)():
        return TextReader(loaded, length or 20)
    return ClassReader(loaded)


def _several(outputs: Sequence[Any]) -> Sequence[Any]:
    if isinstance(outputs, str) or not hasattr(outputs, "__len__"):
        raise InputError(f"outputs are {outputs!r:.60}; give a list, one output each")
    if not len(outputs):
        raise InputError("there are no outputs")
    return outputs


def _ids(output: Any) -> list[int]:
    if isinstance(output, str) or not hasattr(output, "__len__"):
        raise InputError(f"output {output!r:.60} is no list of token ids")
    return [_whole(t) for t in output]


def _whole(token: Any) -> int:
    """A class or token as a number; negative ones would be taken for what follows an end."""
    value = token.item() if hasattr(token, "item") else token
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise InputError(f"option {token!r} is no index; allowed: whole numbers from 0")
    return value


def _chooser(log_q: Callable[[Tensor], Tensor] | None, seed: int, device: torch.device) -> Choose:
    if log_q is None:
        return lambda logits: logits.argmax(-1)
    generator = torch.Generator(device).manual_seed(seed)
    return lambda logits: torch.multinomial(log_q(logits).exp(), 1, generator=generator)[:, 0]


def _rectangle(rows: list[list[int]]) -> Int[Tensor, "row position"]:
    width = max(map(len, rows))
    return torch.tensor([r + [NOTHING] * (width - len(r)) for r in rows])
