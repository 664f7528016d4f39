"""The command on a photograph: `explain`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core

from nissl.cli._common import JsonOption, ModelOption, SeedOption, load, photos, print_json, quiet, report_path

app = typer.Typer()


@app.command(
    epilog="Examples: `nissl explain photo.jpg` · `nissl explain coffee --target cup --out report.html` · `nissl explain photo.jpg --json`"
)
def explain(
    photo: Annotated[
        str, typer.Argument(help="A picture file, or the name of a sample photograph.", autocompletion=photos)
    ],
    model: ModelOption = "efficientnet-lite0",
    target: Annotated[str | None, typer.Option(help="Class to explain; the best one by default.")] = None,
    rival: Annotated[str | None, typer.Option(help="Class to set beside it; the second best by default.")] = None,
    method: Annotated[list[str] | None, typer.Option(help="Methods to compare; may be given several times.")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="The report: a file ending in .html, or a folder.")] = Path(
        "nissl-out"
    ),
    seed: SeedOption = 0,
    as_json: JsonOption = False,
    open_it: Annotated[bool, typer.Option("--open", help="Open the report in a browser.")] = False,
) -> None:
    """Explain a photograph: one self-contained report of what the network saw, where, which channels, and how sure."""
    path = report_path(out, photo)
    with quiet(as_json):
        import nissl

        methods = {"methods": tuple(method)} if method else {}
        result = nissl.explain(
            load(model),
            photo,
            target=class_of(target),
            rival=class_of(rival),
            seed=seed,
            progress=not as_json,
            **methods,
        )
        result.save(path)
    if as_json:
        print_json({**result.summary(), "report": str(path)})
    else:
        _print_explanation(result)
        typer.echo(str(path))
    if open_it:
        typer.launch(path.resolve().as_uri())


def class_of(given: str | None) -> str | int | None:
    """A class is a name, or an index."""
    return int(given) if given is not None and given.lstrip("-").isdigit() else given


def _print_explanation(result: Any) -> None:
    for row in result.classes.itertuples():
        typer.echo(f"{row.probability:7.1%}  {row[1]}")
    where = result.where
    box = ", ".join(f"{side} {where[side]:.0f}" for side in ("left", "top", "right", "bottom"))
    typer.echo(
        f"Evidence for {result.target}: {where['words']} ({box}); {where['inside']:.0%} of it on {where['area']:.0%} of the picture"
    )
    typer.echo(result.channels.text.text)
    for name in result.methods:
        down, up = result.deletion[name], result.insertion[name]
        typer.echo(
            f"{name}: deletion area {down.area.value:.3f} (control {down.area.control:.3f}), "
            f"insertion area {up.area.value:.3f} (control {up.area.control:.3f})"
        )
