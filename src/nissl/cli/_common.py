"""What every command shares: options, what goes to which stream, JSON."""

from __future__ import annotations

import difflib
import json
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core

from nissl.errors import InputError


class Commands(typer.core.TyperGroup):
    """Commands in the order they were written; an unknown one names the nearest."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(self.commands)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and not args[0].startswith("-") and args[0] not in self.commands:
            near = difflib.get_close_matches(args[0], self.commands, n=3, cutoff=0.4)
            raise InputError(
                f"unknown command {args[0]!r}; "
                + (f"nearest: {', '.join(near)}" if near else f"there are {', '.join(self.commands)}")
            )
        return super().resolve_command(ctx, args)


def photos(incomplete: str) -> list[str]:
    from nissl import specimens

    return [p for p in specimens.photos() if p.startswith(incomplete)]


def models(incomplete: str) -> list[str]:
    from nissl import specimens

    return [m for m in specimens.model_names() if m.startswith(incomplete)]


def slugs(incomplete: str) -> list[str]:
    from nissl import papers

    return [s for s in papers.papers() if s.startswith(incomplete)]


ModelOption = Annotated[
    str, typer.Option("--model", "-m", help="Specimen, folder or Hugging Face id.", autocompletion=models)
]
SeedOption = Annotated[int, typer.Option(help="For everything random.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]


def console() -> Any:
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 140, highlight=False)


def print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=1, default=_plain, allow_nan=False))


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else str(value)


@contextmanager
def quiet(silent: bool) -> Iterator[None]:
    """What libraries print or warn goes to standard error, or nowhere: standard output belongs to the result."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    logging.getLogger("transformers").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        if silent:
            warnings.simplefilter("ignore")
        before, sys.stdout = sys.stdout, sys.stderr if silent else sys.stdout
        try:
            yield
        finally:
            sys.stdout = before


def load(name: str) -> Any:
    import nissl

    return nissl.load(name)


def report_path(out: Path, subject: str) -> Path:
    """Where the report goes, tried before any work is done."""
    path = out if out.suffix.lower() in (".html", ".htm") else out / f"{Path(subject).stem or 'report'}.html"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            raise IsADirectoryError(21, "it is a folder", str(path))
        existed = path.exists()
        with path.open("a"):
            pass
        if not existed:
            path.unlink()
    except OSError as error:
        raise InputError(
            f"the report cannot be written to {str(path)!r}: {error.strerror}; choose another place with --out"
        ) from error
    return path
