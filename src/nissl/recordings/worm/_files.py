"""Where the data files of `cect` and `wormneuroatlas` lie. The packages are never imported: one starts plotting
libraries, the other asks a server.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from pathlib import Path

from nissl.errors import InputError, MissingExtraError

INSTALL = "pip install --no-deps cect wormneuroatlas"


def data_file(package: str, *parts: str) -> Path:
    """The path of a file inside an installed package.

    Raises
    ------
    MissingExtraError
        The package is not installed.
    InputError
        It is, but in a version that lacks the file.
    """
    path = folder(package).joinpath(*parts)
    if not path.exists():
        raise InputError(
            f"{package} {version(package)} has no file {'/'.join(parts)}; read here with cect 0.3.5 and wormneuroatlas 0.0.7.3, "
            f"which `{INSTALL}` brings"
        )
    return path


def folder(package: str) -> Path:
    """The folder of an installed package, found without importing it."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise MissingExtraError(
            f"the worm's tables come with the package {package!r}, which is not installed; `{INSTALL}` (only their data files are "
            "read, so their dependencies are not needed), or nissl[worm] with them"
        )
    return Path(next(iter(spec.submodule_search_locations)))


def installed(package: str) -> bool:
    """Whether the package is there."""
    spec = importlib.util.find_spec(package)
    return spec is not None and bool(spec.submodule_search_locations)


def version(package: str) -> str:
    """The installed version, for provenance."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "of unknown version"
