"""One door for every network."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nissl import specimens
from nissl.errors import InputError, ModelError, nearest, unknown
from nissl.models.model import Model


def load(
    x: str | Path | nn.Module | Model,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype | None = None,
    *,
    tokenizer: Any = None,
    processor: Any = None,
    classes: list[str] | None = None,
    name: str = "",
) -> Model:
    """Open a network.

    Parameters
    ----------
    x
        A specimen (`efficientnet-lite0`, `scenes`), a Hugging Face id (`openai-community/gpt2`), a local folder with
        safetensors, or any `torch.nn.Module`.
    device
        `auto` takes a GPU where there is one; a module that is given stays where it is.
    dtype
        Floating-point type of the weights, such as `"bfloat16"`; None keeps them as they are.
    tokenizer, processor
        For modules that come without: a Hugging Face tokenizer; a Hugging Face image processor, a
        `nissl.specimens.ImageSpec`, or a callable from a PIL picture to a tensor `(channel, y, x)`.
    classes
        Names of the output's classes.
    name
        What to call it in reports.

    Returns
    -------
    Model
        The network in evaluation mode.

    Raises
    ------
    UnknownNameError
        No specimen, folder or reachable hub id of that name; the message lists the nearest specimens.
    InputError
        A file that is no folder of a model, an unknown device or dtype.
    ModelError
        A pickle that wants to run code.

    Examples
    --------
    >>> import nissl, torch
    >>> nissl.load(torch.nn.Linear(2, 2)).sites.find("logits")[0].name
    'logits'
    """
    kind = _dtype(dtype)
    if isinstance(x, Model):
        return x
    if not isinstance(x, str | Path | nn.Module):
        raise InputError(_no_model(x))
    if isinstance(x, nn.Module):
        module, found = x, {}
        where = None if device == "auto" else _device(device)
    else:
        where = _device(device)
        module, found = _open(str(x), kind)
    module.to(device=where, dtype=kind)
    module.eval()
    found = {"name": name or found.get("name", ""), "tokenizer": found.get("tokenizer"), **found}
    given = {"tokenizer": tokenizer, "processor": processor, "classes": classes, "name": name or None}
    model = Model(module, **{**found, **{k: v for k, v in given.items() if v is not None}})
    _check_classes(model)
    return model


def _no_model(x: object) -> str:
    if isinstance(x, type) and issubclass(x, nn.Module):
        return f"{x.__name__} is a class; give an instance, such as {x.__name__}(...)"
    if hasattr(x, "model_type"):  # a Hugging Face configuration
        return f"{type(x).__name__} holds no weights; give a model, such as transformers.AutoModelForCausalLM.from_config(config)"
    return f"{x!r:.60} is {type(x).__name__}, and no model; give a name, a folder, or a torch.nn.Module"


def _open(x: str, dtype: torch.dtype | None) -> tuple[nn.Module, dict[str, Any]]:
    if x in specimens.model_names():
        specimen = specimens.load_model(x)
        return specimen.module, {"name": x, "processor": specimen.image, "classes": list(specimen.classes)}
    path = Path(x).expanduser()
    if path.is_dir():
        return _pretrained(path, dtype, local=True)
    if path.exists():
        raise _file_error(path)
    if x.startswith((".", "/", "~", os.sep)) or Path(x).suffix in (".pt", ".pth", ".bin", ".safetensors"):
        raise InputError(f"there is no file or folder {x!r}")
    names = specimens.model_names()
    if "/" not in x and nearest(x, names, n=1, cutoff=0.75):
        raise unknown("model", x, names)  # a slip of the finger; the hub need not be asked
    return _pretrained(x, dtype, local=False)


def _pretrained(source: str | Path, dtype: torch.dtype | None, *, local: bool) -> tuple[nn.Module, dict[str, Any]]:
    import transformers
    from transformers import AutoConfig

    # Remote code stays off, and weights are safetensors: nothing that comes with a model is run.
    options = {"trust_remote_code": False, "local_files_only": local}
    try:
        config = AutoConfig.from_pretrained(source, **options)
        architecture = (getattr(config, "architectures", None) or ["AutoModel"])[0]
        opener = getattr(transformers, architecture, transformers.AutoModel)
        module = opener.from_pretrained(source, use_safetensors=True, dtype=dtype or "auto", **options)
    except (OSError, ValueError) as error:
        raise _unavailable(source, error, local=local) from error
    found: dict[str, Any] = {"name": Path(source).name if local else str(source)}
    main = getattr(module, "main_input_name", "")
    if main == "input_ids":
        tokenizer = _optional(transformers.AutoTokenizer, source, options)
        # Some classes open a folder without vocabulary as a tokenizer that knows nothing but its special tokens.
        known = set(tokenizer.get_vocab()) - set(tokenizer.all_special_tokens) if tokenizer is not None else set()
        found["tokenizer"] = tokenizer if known else None
    elif main == "pixel_values":
        found["processor"] = _optional(transformers.AutoImageProcessor, source, options) or _plain_processor(config)
    return module, found


def _optional(auto: Any, source: str | Path, options: dict[str, Any]) -> Any:
    """A tokenizer or processor, or None where the folder holds none (or it needs torchvision)."""
    try:
        return auto.from_pretrained(source, **options)
    except (OSError, ValueError, ImportError, KeyError, TypeError):
        return None


def _plain_processor(config: Any) -> specimens.ImageSpec | None:
    """Pictures squeezed to the size in the configuration and scaled to -1..1, as vision transformers are mostly
    trained.
    """
    size = getattr(config, "image_size", None)
    if not isinstance(size, int):
        return None
    return specimens.ImageSpec(size=size, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), crop=0, interpolation="bilinear")


def _unavailable(source: str | Path, error: Exception, *, local: bool) -> Exception:
    if local:
        return InputError(f"folder {str(source)!r} holds no model that can be opened: {_first_line(error)}")
    names = specimens.model_names()
    near = nearest(str(source), names) or names
    return unknown(
        "model",
        source,
        near,
        hint=f"as a Hugging Face id it cannot be opened either ({_first_line(error)}); a folder or a torch.nn.Module works too",
    )


def _file_error(path: Path) -> Exception:
    """What to say of a single file: weights alone are no network, and a pickled network is a program."""
    if path.suffix == ".safetensors":
        return InputError(
            f"{str(path)!r} holds weights without a network; give its folder (with config.json), or build the module, load the "
            "weights into it with safetensors.torch.load_model, and give the module"
        )
    try:
        torch.load(path, weights_only=True, map_location="cpu")
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, AttributeError, ImportError) as error:
        if b"\x80" in path.read_bytes()[:2] or path.read_bytes()[:2] == b"PK":
            return ModelError(
                f"{str(path)!r} is a pickle that wants to run code ({_first_line(error)}); it is not opened. Ask for safetensors, or build "
                "the module yourself and give it to nissl.load"
            )
        return InputError(
            f"{str(path)!r} is no model; give a folder with safetensors, a specimen, a hub id or a torch.nn.Module"
        )
    return InputError(
        f"{str(path)!r} holds weights without a network; build the module, load the weights with torch.load(..., weights_only=True), and "
        "give the module to nissl.load"
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:200]


def _device(device: str | torch.device) -> torch.device:
    if str(device) == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise InputError(
            f"device {str(device)!r} cannot be used: {_first_line(error)}; 'auto' and 'cpu' always can"
        ) from None
    return chosen


def _dtype(dtype: str | torch.dtype | None) -> torch.dtype | None:
    if dtype is None or isinstance(dtype, torch.dtype):
        return dtype
    allowed = ("float32", "float64", "float16", "bfloat16")
    if dtype not in allowed:
        raise unknown("dtype", dtype, allowed)
    return getattr(torch, dtype)


def _check_classes(model: Model) -> None:
    """A list of names that is too short or too long would put wrong names on the classes."""
    last = next((m for m in reversed(list(model.module.modules())) if isinstance(m, nn.Linear)), None)
    if model.classes and last is not None and model.kind != "text" and last.out_features < len(model.classes):
        raise InputError(
            f"{len(model.classes)} class names for a network whose last layer has {last.out_features} outputs"
        )
