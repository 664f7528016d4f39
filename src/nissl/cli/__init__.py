"""The command line. Heavy libraries are imported by the command that needs them, so that help is instant."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from nissl import __version__
from nissl.cli import diagrams, layers, networks, papers, photographs, recordings
from nissl.cli._common import Commands
from nissl.errors import NisslError

# Typer carries a click of its own or uses the installed one, depending on its version: this is the base of its usage
# errors.
_UsageError: type[Exception] = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Make individual neurons visible, with a test beside every explanation.",
    epilog="Examples: `nissl explain photo.jpg` · `nissl explain coffee` · `nissl reproduce grad-cam` · `nissl COMMAND --help`",
)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"nissl {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Options that come before the command."""


for part in (photographs, networks, diagrams, papers):
    app.add_typer(part.app)
app.add_typer(recordings.app, name="recording")
app.add_typer(layers.app, name="nn")


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns or exits with 0, 1 (a claim failed), 2 (bad input) or 130 (interrupted)."""
    arguments = sys.argv[1:] if argv is None else argv
    debug = "--debug" in arguments
    try:
        code = app(args=arguments, standalone_mode=False, prog_name="nissl")
        sys.exit(code if isinstance(code, int) else 0)
    except typer.Abort:
        sys.exit(130)
    except _UsageError as error:
        said = error.format_message()  # type: ignore[attr-defined]
        if said:  # empty where help was printed instead
            typer.echo(f"nissl: {said}", err=True)
        sys.exit(2)
    except KeyboardInterrupt:
        typer.echo("nissl: interrupted", err=True)
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except (NisslError, OSError) as error:
        if debug:
            raise
        typer.echo("nissl: " + " ".join(str(error).split()), err=True)
        sys.exit(2)


__all__ = ["app", "main"]
