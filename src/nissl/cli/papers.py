"""Commands on papers: `papers` and `reproduce`."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
import typer.core

from nissl.cli._common import JsonOption, SeedOption, console, print_json, quiet
from nissl.cli._common import slugs as slug_names
from nissl.errors import InputError

app = typer.Typer()


@app.command(epilog="Example: `nissl papers --json`")
def papers(as_json: JsonOption = False) -> None:
    """List the papers whose methods are here, and their claims."""
    from nissl.papers import papers as all_papers

    rows = [{"slug": p.slug, "title": p.title, "room": p.room, "claims": len(p.claims)} for p in all_papers().values()]
    if as_json:
        print_json(rows)
        return
    from rich.table import Table

    table = Table("slug", "paper", "room", "claims", box=None)
    for row in rows:
        table.add_row(*map(str, row.values()))
    console().print(table)


@app.command(
    epilog="Examples: `nissl reproduce grad-cam` · `nissl reproduce --all --json > claims.json` · `nissl reproduce grad-cam --seed 7`"
)
def reproduce(
    slugs: Annotated[
        list[str] | None, typer.Argument(help="Papers, as `nissl papers` names them.", autocompletion=slug_names)
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every paper.")] = False,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Measure the claims of papers on this machine, each against a control; exit 1 if one that should hold does not."""
    if bool(slugs) == everything:
        raise InputError("name papers, or say --all; `nissl papers` lists them")
    with quiet(as_json):
        from nissl.papers import reproduce as run

        results = []
        for result in run(slugs or None, seed=seed):
            results.append(result)
            if not as_json:
                _print_claim(result)
                sys.stdout.flush()  # claims take a while each; a log shows them as they come
    failed = [r for r in results if r["expected"] and not r["holds"]]
    if as_json:
        print_json(results)
    else:
        held = sum(r["holds"] for r in results)
        typer.echo(f"{held} of {len(results)} claims hold; {len(failed)} of those that should hold failed")
    raise typer.Exit(1 if failed else 0)


def _print_claim(result: dict[str, Any]) -> None:
    sign = "holds" if result["holds"] else "does NOT hold"
    if not result["expected"]:
        sign += " (not expected at this size)"
    typer.echo(f"[{result['paper']}] {result['claim']}: {sign}")
    typer.echo(
        f"    measured {result['measured']}; control {result['control']}; threshold {result['threshold']}; paper {result['paper_value']}"
    )
    typer.echo(
        f"    seeds {', '.join(map(str, result['seeds']))}; {result['seconds']:.1f} s"
        + (f"; {result['note']}" if result["note"] else "")
    )
