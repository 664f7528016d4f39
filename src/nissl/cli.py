"""The command line. Heavy libraries are imported by the command that needs them, so that help is instant."""

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

from nissl import __version__
from nissl.errors import InputError, NisslError

# Typer carries a click of its own or uses the installed one, depending on its version: this is the base of its usage
# errors.
_UsageError: type[Exception] = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")


class _Commands(typer.core.TyperGroup):
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


app = typer.Typer(
    cls=_Commands,
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


# ----------------------------------------------------------------------------------------------------------- completion


def _photos(incomplete: str) -> list[str]:
    from nissl import specimens

    return [p for p in specimens.photos() if p.startswith(incomplete)]


def _models(incomplete: str) -> list[str]:
    from nissl import specimens

    return [m for m in specimens.model_names() if m.startswith(incomplete)]


def _slugs(incomplete: str) -> list[str]:
    from nissl import papers

    return [s for s in papers.papers() if s.startswith(incomplete)]


ModelOption = Annotated[
    str, typer.Option("--model", "-m", help="Specimen, folder or Hugging Face id.", autocompletion=_models)
]
SeedOption = Annotated[int, typer.Option(help="For everything random.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]


# ------------------------------------------------------------------------------------------------------------- commands


@app.command(
    epilog="Examples: `nissl explain photo.jpg` · `nissl explain coffee --target cup --out report.html` · `nissl explain photo.jpg --json`"
)
def explain(
    photo: Annotated[
        str, typer.Argument(help="A picture file, or the name of a sample photograph.", autocompletion=_photos)
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
    path = _report_path(out, photo)
    with _quiet(as_json):
        import nissl

        methods = {"methods": tuple(method)} if method else {}
        result = nissl.explain(
            _load(model), photo, target=_class(target), rival=_class(rival), seed=seed, progress=not as_json, **methods
        )
        result.save(path)
    if as_json:
        _print_json({**result.summary(), "report": str(path)})
    else:
        _print_explanation(result)
        typer.echo(str(path))
    if open_it:
        typer.launch(path.resolve().as_uri())


@app.command(
    epilog="Examples: `nissl record ./my-gpt2 prompts.txt --at 'neurons.*' --at resid.3 --to acts.zarr` · "
    "`nissl record efficientnet-lite0 photos/ --at _avg_pooling --to acts.zarr`"
)
def record(
    model: Annotated[str, typer.Argument(help="Specimen, folder or Hugging Face id.", autocompletion=_models)],
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
    samples = _corpus(corpus)
    with _quiet(as_json):
        import nissl

        acts = nissl.record(
            _load(model), samples, at, to=str(to), batch_size=batch_size, positions=_selector(positions, "positions"), units=_selector(units, "units"),
            dtype=dtype, generate=generate, progress=not as_json,
        )  # fmt: skip
    table = {str(name): dict(zip(map(str, a.dims), a.shape, strict=True)) for name, a in acts.data_vars.items()}
    if as_json:
        _print_json({"store": str(to), "sites": table})
        return
    for name, sizes in table.items():
        typer.echo(f"{name}: " + ", ".join(f"{k} {v}" for k, v in sizes.items()))
    typer.echo(str(to))


@app.command(epilog="Examples: `nissl sites efficientnet-lite0` · `nissl sites ./my-gpt2 'neurons.*'`")
def sites(
    model: Annotated[str, typer.Argument(help="Specimen, folder or Hugging Face id.", autocompletion=_models)],
    pattern: Annotated[str, typer.Argument(help="A glob.")] = "*",
    as_json: JsonOption = False,
) -> None:
    """List the places of a network that can be read and changed."""
    with _quiet(as_json):
        found = _load(model).sites.find(pattern)
    if as_json:
        _print_json([{"site": s.name, "module": s.module, "axes": s.dims} for s in found])
        return
    for site in found:
        typer.echo(site.name + (f"  ({', '.join(site.dims)})" if site.dims else ""))


@app.command(epilog="Example: `nissl papers --json`")
def papers(as_json: JsonOption = False) -> None:
    """List the papers whose methods are here, and their claims."""
    from nissl.papers import papers as all_papers

    rows = [{"slug": p.slug, "title": p.title, "room": p.room, "claims": len(p.claims)} for p in all_papers().values()]
    if as_json:
        _print_json(rows)
        return
    from rich.table import Table

    table = Table("slug", "paper", "room", "claims", box=None)
    for row in rows:
        table.add_row(*map(str, row.values()))
    _console().print(table)


@app.command(
    epilog="Examples: `nissl reproduce grad-cam` · `nissl reproduce --all --json > claims.json` · `nissl reproduce grad-cam --seed 7`"
)
def reproduce(
    slugs: Annotated[
        list[str] | None, typer.Argument(help="Papers, as `nissl papers` names them.", autocompletion=_slugs)
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every paper.")] = False,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Measure the claims of papers on this machine, each against a control; exit 1 if one that should hold does not."""
    if bool(slugs) == everything:
        raise InputError("name papers, or say --all; `nissl papers` lists them")
    with _quiet(as_json):
        from nissl.papers import reproduce as run

        results = []
        for result in run(slugs or None, seed=seed):
            results.append(result)
            if not as_json:
                _print_claim(result)
    failed = [r for r in results if r["expected"] and not r["holds"]]
    if as_json:
        _print_json(results)
    else:
        held = sum(r["holds"] for r in results)
        typer.echo(f"{held} of {len(results)} claims hold; {len(failed)} of those that should hold failed")
    raise typer.Exit(1 if failed else 0)


@app.command()
def specimens(as_json: JsonOption = False) -> None:
    """List the networks and photographs that come with the package."""
    from nissl import specimens as room

    found = {"networks": room.model_names(), "photographs": room.photos()}
    if as_json:
        _print_json(found)
        return
    for kind, names in found.items():
        typer.echo(f"{kind}: {', '.join(names)}")


# -------------------------------------------------------------------------------------------------------------- reading


def _load(name: str) -> Any:
    import nissl

    return nissl.load(name)


def _class(given: str | None) -> str | int | None:
    """A class is a name, or an index."""
    return int(given) if given is not None and given.lstrip("-").isdigit() else given


def _report_path(out: Path, photo: str) -> Path:
    """Where the report goes, tried before any work is done."""
    path = out if out.suffix.lower() in (".html", ".htm") else out / f"{Path(photo).stem or 'photo'}.html"
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


def _corpus(path: Path) -> list[Any]:
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


def _selector(text: str | None, name: str) -> Any:
    """`last`, `3`, `0:5` or `0,2,-1`, as Python would say it."""
    if text is None or (text == "last" and name == "positions"):
        return text
    try:
        if ":" in text:
            return slice(*(int(part) if part else None for part in text.split(":")))
        return [int(part) for part in text.split(",")]
    except (ValueError, TypeError):
        raise InputError(f"{name} {text!r}; allowed: a number, a range such as 0:5, a list such as 0,2,7") from None


# ------------------------------------------------------------------------------------------------------------- printing


def _console() -> Any:
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 140, highlight=False)


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=1, default=_plain, allow_nan=False))


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else str(value)


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


@contextmanager
def _quiet(silent: bool) -> Iterator[None]:
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
        typer.echo(f"nissl: {error.format_message()}", err=True)  # type: ignore[attr-defined]
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
