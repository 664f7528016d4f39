"""A fitted model on disk: weights as safetensors, everything else as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from nissl.errors import StoreError
from nissl.populations.neuroformer.model import Architecture, NeuroformerNetwork

FORMAT = 1


def write_model(folder: str | Path, network: NeuroformerNetwork, about: dict[str, Any]) -> None:
    """Write `model.safetensors` and `model.json` into a folder."""
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    save_file({k: v.detach().cpu().contiguous() for k, v in network.state_dict().items()}, path / "model.safetensors")
    (path / "model.json").write_text(
        json.dumps({"format": FORMAT, "shape": network.shape.to_dict(), **about}, indent=1)
    )


def read_model(folder: str | Path) -> tuple[NeuroformerNetwork, dict[str, Any]]:
    """Network and the rest.

    Raises
    ------
    StoreError
        No such folder, a file that is missing or truncated, weights of another shape.
    """
    path = Path(folder)
    try:
        about = json.loads((path / "model.json").read_text())
        weights = load_file(path / "model.safetensors")
    except (OSError, ValueError, SafetensorError) as error:
        raise StoreError(
            f"folder {str(folder)!r} holds no readable Neuroformer ({error}); wanted: model.json and model.safetensors, as save() writes them"
        ) from error
    if about.get("format") != FORMAT:
        raise StoreError(
            f"folder {str(folder)!r} was written in format {about.get('format')}; this version reads {FORMAT}"
        )
    network = NeuroformerNetwork(Architecture.from_dict(about["shape"]))
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise StoreError(
            f"the weights in {str(folder)!r} are of another shape than its model.json says: {str(error).splitlines()[0]}"
        ) from error
    return network.eval(), about
