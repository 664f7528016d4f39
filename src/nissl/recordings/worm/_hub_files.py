"""Files of a data set, on this machine or on the Hugging Face hub."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from nissl.errors import InputError, MissingExtraError, StoreError

_ID = re.compile(r"^(?:hf://datasets/)?([\w.-]+/[\w.-]+)(?:/(.+))?$")


def hub_files(path: str | Path | Sequence[str | Path], suffix: str) -> list[Path]:
    """Local files that end in `suffix`: the one named, those of a folder, or those of a hub data set, fetched into the
    hub's cache.

    A path that exists here is a path; only what does not, and looks like `owner/name`, is taken for an id.
    """
    if not isinstance(path, str | Path):
        found = [f for p in path for f in hub_files(p, suffix)]
        if not found:
            raise InputError(f"an empty list of files; give {suffix} files, a folder, or the id of a hub data set")
        return found
    text = str(path)
    local = Path(text)
    if local.is_dir():
        found = sorted(f for f in local.rglob(f"*{suffix}") if f.is_file())
        if not found:
            raise InputError(f"no {suffix} file in the folder {local}")
        return found
    if local.is_file():
        return [local]
    match = _ID.match(text)
    if match is None or (local.suffix == suffix and not text.startswith("hf://")):
        raise InputError(
            f"no file or folder {text!r} here; give one, or a hub data set as 'owner/name' or 'hf://datasets/owner/name'"
        )
    return _fetched(match[1], match[2], suffix)


def _fetched(repository: str, inside: str | None, suffix: str) -> list[Path]:
    try:
        from huggingface_hub import HfApi, hf_hub_download
        from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled
    except ImportError as error:
        raise MissingExtraError("data sets of the hub need huggingface_hub; pip install huggingface_hub") from error
    try:
        files = HfApi().list_repo_files(repository, repo_type="dataset")
        wanted = sorted(
            f
            for f in files
            if f.endswith(suffix) and (inside is None or f == inside or f.startswith(inside.rstrip("/") + "/"))
        )
        if not wanted:
            raise InputError(
                f"hub data set {repository} has no {suffix} file"
                + (f" under {inside!r}" if inside else "")
                + f"; it has {', '.join(files[:8])}"
            )
        return [Path(hf_hub_download(repository, f, repo_type="dataset")) for f in wanted]
    except (HfHubHTTPError, OfflineModeIsEnabled, OSError) as error:
        raise StoreError(
            f"hub data set {repository!r} cannot be had: {str(error).splitlines()[0]}; is there a network, and is that its id? Otherwise fetch its "
            f"{suffix} files elsewhere and give their folder"
        ) from error
    except Exception as error:  # the hub's client raises whatever its transport raises
        if isinstance(error, InputError) or not type(error).__module__.startswith(
            ("httpx", "httpcore", "requests", "urllib3")
        ):
            raise
        raise StoreError(
            f"hub data set {repository!r} cannot be reached: {error}; fetch its {suffix} files elsewhere and give their folder"
        ) from error
