"""Commands on layers and networks that are built here: `nn list`, `nn show`, `nn swim`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
import typer.core

from nissl.cli._common import Commands, JsonOption, SeedOption, console, print_json, quiet
from nissl.errors import InputError

app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    help="Layers and networks that are here: what there is, their equations, examples.",
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
        print_json({"name": entry.name, "room": entry.room, "about": entry.sections[""], **sections})
        return
    typer.echo(f"{entry.room}.{entry.name}\n\n{entry.sections['']}")
    titles = [t for t in SHOWN if t in entry.sections]
    for title in titles:
        heading = "Equations and state" if title == "Notes" else title
        typer.echo(f"\n{heading}\n{'-' * len(heading)}\n{entry.sections[title]}")


@app.command(
    epilog="Examples: `nissl nn swim` · `nissl nn swim --links 12 --to long.gif` · `nissl nn swim --no-proprioception` · `nissl nn swim --body mujoco`"
)
def swim(
    links: Annotated[int, typer.Option(help="Links of the body, from 3.")] = 6,
    steps: Annotated[int, typer.Option(help="Control steps of 0.03 s.")] = 1000,
    period: Annotated[int, typer.Option(help="Of the head's oscillators, in control steps.")] = 60,
    body: Annotated[str, typer.Option(help="planar, or mujoco (extra `papers`).")] = "planar",
    proprioception: Annotated[bool, typer.Option(help="Whether neurons feel how their neighbours bend.")] = True,
    oscillator: Annotated[bool, typer.Option(help="Whether the head has its oscillators.")] = True,
    to: Annotated[Path, typer.Option(help="The moving picture, ending in .gif.")] = Path("nissl-out/swim.gif"),
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Let the worm's circuit, untrained, move a body, and draw what body and circuit do; the last line is the picture's path."""
    if to.suffix.lower() != ".gif":
        raise InputError(f"the moving picture {to.name!r} must end in .gif")
    with quiet(as_json):
        from nissl.learning import swim as run
        from nissl.learning import wave_lags
        from nissl.nn import WormSwimmer
        from nissl.report.swimming import animate

        circuit = WormSwimmer(max(links - 1, 0), period, proprioception=proprioception, oscillator=oscillator)
        episode = run(circuit, links, steps, seed, body=body, progress=not as_json)
        found = {
            "return": float(episode["reward"].sum()),
            "of": steps,
            "speed": float(episode["forward_speed"].mean()),
            "lag": float(wave_lags(episode).mean()) if proprioception and oscillator and steps >= 4 * period else None,
            "picture": str(animate(episode, to, progress=not as_json)),
        }
    if as_json:
        print_json(found)
        return
    typer.echo(f"return {found['return']:.0f} of {steps}, {found['speed']:.3f} m/s on average")
    if found["lag"] is not None:
        typer.echo(f"a bend takes {found['lag']:.2f} s from joint to joint")
    typer.echo(found["picture"])
