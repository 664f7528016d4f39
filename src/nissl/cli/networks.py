"""Commands on trained networks: `record`, `sites`, `specimens`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core

from nissl.cli._common import JsonOption, load, models, print_json, quiet
from nissl.errors import InputError

app = typer.Typer()


@app.command(
    epilog="Examples: `nissl record ./my-gpt2 prompts.txt --at 'neurons.*' --at resid.3 --to acts.zarr` · "
    "`nissl record efficientnet-lite0 photos/ --at _avg_pooling --to acts.zarr`"
)
def record(
    model: Annotated[str, typer.Argument(help="Specimen, folder or Hugging Face id.", autocompletion=models)],
    corpus: Annotated[
        Path, typer.Argument(help="Texts: .txt (one a line) or .jsonl (field text). Pictures: a folder or a file.")
    ],
    at: Annotated[
        list[str], typer.Option(help="Site or glob; may be given several times. `nissl sites MODEL` lists them.")
    ],
    to: Annotated[Path, typer.Option(help="The zarr store to write; run again to go on after an interruption.")],
    batch_size: Annotated[int | None, typer.Option(help="Samples in one pass.")] = None,
    positions: Annotated[
        str | None, typer.Option(help="Positions to keep: last, a number, a range 0:5, or a list 0,2,-1.")
    ] = None,
    units: Annotated[str | None, typer.Option(help="Units to keep: a number, a range 0:5, or a list 0,2,7.")] = None,
    dtype: Annotated[str | None, typer.Option(help="float32, float16 or float64.")] = None,
    generate: Annotated[int, typer.Option(help="Tokens to generate, and to record as well.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Record the activity of a network over a corpus, in flat memory, resumable."""
    samples = read_corpus(corpus)
    with quiet(as_json):
        import nissl

        acts = nissl.record(
            load(model), samples, at, to=str(to), batch_size=batch_size, positions=selector(positions, "positions"), units=selector(units, "units"),
            dtype=dtype, generate=generate, progress=not as_json,
        )  # fmt: skip
    table = {str(name): dict(zip(map(str, a.dims), a.shape, strict=True)) for name, a in acts.data_vars.items()}
    if as_json:
        print_json({"store": str(to), "sites": table})
        return
    for name, sizes in table.items():
        typer.echo(f"{name}: " + ", ".join(f"{k} {v}" for k, v in sizes.items()))
    typer.echo(str(to))


@app.command(epilog="Examples: `nissl sites efficientnet-lite0` · `nissl sites ./my-gpt2 'neurons.*'`")
def sites(
    model: Annotated[str, typer.Argument(help="Specimen, folder or Hugging Face id.", autocompletion=models)],
    pattern: Annotated[str, typer.Argument(help="A glob.")] = "*",
    as_json: JsonOption = False,
) -> None:
    """List the places of a network that can be read and changed."""
    with quiet(as_json):
        found = load(model).sites.find(pattern)
    if as_json:
        print_json([{"site": s.name, "module": s.module, "axes": s.dims} for s in found])
        return
    for site in found:
        typer.echo(site.name + (f"  ({', '.join(site.dims)})" if site.dims else ""))


@app.command()
def specimens(as_json: JsonOption = False) -> None:
    """List the networks and photographs that come with the package."""
    from nissl import specimens as room

    found = {"networks": room.model_names(), "photographs": room.photos()}
    if as_json:
        print_json(found)
        return
    for kind, names in found.items():
        typer.echo(f"{kind}: {', '.join(names)}")


def read_corpus(path: Path) -> list[Any]:
    """Samples: lines of a text file, pictures of a folder, or one picture."""
    from nissl.errors import nearest

    if not path.exists():
        near = nearest(path.name, (p.name for p in path.parent.iterdir()), n=3) if path.parent.is_dir() else []
        raise InputError(
            f"there is no file or folder {str(path)!r}" + (f"; nearest: {', '.join(map(repr, near))}" if near else "")
        )
    if path.is_dir():
        pictures = sorted(
            p
            for p in path.iterdir()
            if p.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif")
        )
        if not pictures:
            raise InputError(f"folder {str(path)!r} holds no pictures")
        return pictures
    if path.suffix.lower() not in (".txt", ".jsonl"):
        return [path]
    try:
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except UnicodeDecodeError:
        raise InputError(f"{str(path)!r} is no UTF-8 text") from None
    if path.suffix.lower() == ".jsonl":
        try:
            lines = [json.loads(line)["text"] for line in lines]
        except (ValueError, KeyError, TypeError):
            raise InputError(f"{str(path)!r}: every line must be a JSON object with a field 'text'") from None
    if not lines:
        raise InputError(f"{str(path)!r} is empty; give one text a line")
    return lines


def selector(text: str | None, name: str) -> Any:
    """`last`, `3`, `0:5` or `0,2,-1`, as Python would say it."""
    if text is None or (text == "last" and name == "positions"):
        return text
    try:
        if ":" in text:
            return slice(*(int(part) if part else None for part in text.split(":")))
        return [int(part) for part in text.split(",")]
    except (ValueError, TypeError):
        raise InputError(f"{name} {text!r}; allowed: a number, a range such as 0:5, a list such as 0,2,7") from None
