"""Commands on networks built from brain-like neurons: `nn list`, `nn show`."""

from __future__ import annotations

from typing import Annotated

import typer
import typer.core

from nissl.cli._common import Commands, JsonOption, console, print_json, quiet

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    help="Networks built from brain-like neurons: what there is, their equations, examples.",
)
SHOWN = ("Notes", "Parameters", "Attributes", "Examples", "References")


def _names(incomplete: str) -> list[str]:
    from nissl.nn.catalogue import networks

    return [n for n in networks() if n.lower().startswith(incomplete.lower())]


@app.command("list", epilog="Example: `nissl nn list --json`")
def list_(as_json: JsonOption = False) -> None:
    """List the networks and layers."""
    with quiet(as_json):
        from nissl.nn.catalogue import networks

        found = networks()
    if as_json:
        print_json([{"name": e.name, "summary": e.summary} for e in found.values()])
        return
    from rich.table import Table

    table = Table("name", "what it is", box=None)
    for entry in found.values():
        table.add_row(entry.name, entry.summary)
    console().print(table)
    typer.echo("`nissl nn show NAME` shows the equations, the parameters and an example.")


@app.command(epilog="Examples: `nissl nn show LIF` · `nissl nn show lif --json`")
def show(
    name: Annotated[str, typer.Argument(help="As `nissl nn list` names it.", autocompletion=_names)],
    as_json: JsonOption = False,
) -> None:
    """Show a network: its equations, its parameters, an example that runs."""
    with quiet(as_json):
        from nissl.nn.catalogue import network

        entry = network(name)
    if as_json:
        sections = {title.lower(): text for title, text in entry.sections.items() if title}
        print_json({"name": entry.name, "about": entry.sections[""], **sections})
        return
    typer.echo(f"nissl.nn.{entry.name}\n\n{entry.sections['']}")
    titles = [t for t in SHOWN if t in entry.sections]
    for title in titles:
        heading = "Equations and state" if title == "Notes" else title
        typer.echo(f"\n{heading}\n{'-' * len(heading)}\n{entry.sections[title]}")
