"""The command that draws a network: `diagram`."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
import sys
import traceback
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core

from nissl.cli._common import JsonOption, models, print_json, quiet
from nissl.errors import InputError, ModelError, NisslError, nearest, unknown

app = typer.Typer()


@app.command(
    epilog="Examples: `nissl diagram efficientnet-lite0` · `nissl diagram mynet.py:Net --input 2,3,64,64 --axes 'batch channel y x'` · "
    "`nissl diagram 'torch.nn:TransformerEncoderLayer(64, 4)' --input 10,2,64 --text` · `nissl diagram ./my-gpt2 --depth 3 --to gpt2.html`"
)
def diagram(
    model: Annotated[
        str,
        typer.Argument(
            help="Specimen, folder, Hugging Face id, or a torch module of your own as file.py:name or 'package.module:Class(64, 4)'; its code is run.",
            autocompletion=models,
        ),
    ],
    depth: Annotated[int | None, typer.Option(help="Modules deeper than this become one box each; 0 shows the network's children. By itself, as deep as can be read.")] = None,
    input_: Annotated[list[str] | None, typer.Option("--input", help="Shape of an example input, such as 2,3,64,64; once for each input.")] = None,
    axes: Annotated[str | None, typer.Option(help="Names of the axes of the first input, such as 'batch time model'.")] = None,
    to: Annotated[Path | None, typer.Option(help="The file: .svg, .png, .html, .txt or .json. By itself nissl-out/NAME.svg.")] = None,
    theme: Annotated[str, typer.Option(help="light, dark, or auto: as the reader's page is.")] = "auto",
    highlight: Annotated[str | None, typer.Option(help="A module and a unit of it, such as layers.0.linear1:7; what it does not reach turns pale.")] = None,
    raw: Annotated[bool, typer.Option("--raw", help="Every operator as torch runs it, nothing simplified or folded.")] = False,
    text: Annotated[bool, typer.Option("--text", help="Print the diagram as text: a line an operation.")] = False,
    as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Draw a network as a neural circuit diagram: axes as wires, what each step does to them, its cost and memory."""
    said: list[warnings.WarningMessage] = []
    with quiet(as_json):
        from nissl.diagrams import circuit
        from nissl.diagrams.drawing import save
        from nissl.diagrams.drawing.picture import checked_path
        from nissl.diagrams.drawing.theme import check_theme

        check_theme(theme)
        unit = _unit(highlight)
        target = checked_path(to if to is not None else Path("nissl-out") / f"{_stem(model)}.svg")
        shapes = [_shape(s) for s in input_ or ()]
        if depth is not None and depth < 0:
            raise InputError(f"depth {depth}; allowed: 0 (the network's children as boxes), 1, 2, ...")
        network = _opened(model)
        if unit is not None:
            network.check_module(unit[0])
        given = shapes[0] if len(shapes) == 1 else tuple(shapes) or None
        drawn = circuit(network, given, axes=axes, simplified=not raw)
        if text and to is None:
            target = None
        else:
            options = {"depth": depth, "fold": not raw, "theme": theme, "highlight": unit}
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                save(drawn, target, **({} if target.suffix.lower() in (".txt", ".json") else options))
    if as_json:
        print_json(_summary(drawn, target))
        return
    if text:
        typer.echo(drawn.to_text().rstrip())
    else:
        _say(drawn)
    for message in said:
        if str(message.message).startswith("the picture"):
            typer.echo(f"note: {message.message}")
    if target is not None:
        typer.echo(str(target))


def _opened(model: str) -> Any:
    """The network that a person means."""
    from nissl.diagrams._opening import opened

    own = re.fullmatch(r"(?P<where>.+\.py|[A-Za-z_][\w.]*):(?P<name>[A-Za-z_][\w.]*)(?P<call>\(.*\))?", model)
    if own:
        return opened(_own_module(own["where"], own["name"], own["call"] or "()"))
    if model.endswith(".py"):
        raise InputError(f"{model!r} is a file of Python; say which network in it: {model}:NAME")
    return opened(model)


def _own_module(where: str, name: str, call: str) -> Any:
    """A torch module that a person wrote: one that is there, or what a class or function of that name makes of plain arguments."""
    from torch import nn

    args, kwargs = _arguments(call)
    found: Any = _imported(where)
    for part in name.split("."):
        if not hasattr(found, part):
            public = [n for n, v in vars(found).items() if callable(v) and not n.startswith("_")]
            raise unknown(f"name in {where}", part, public)
        found = getattr(found, part)
    if isinstance(found, nn.Module):
        return found
    if not callable(found):
        raise InputError(
            f"{where}:{name} is a {type(found).__name__}; give a torch module, its class, or a function that makes it"
        )
    try:
        made = found(*args, **kwargs)
    except NisslError:
        raise
    except Exception as error:
        raise ModelError(
            f"{where}:{name}{call} cannot be made ({_where(error)}); give plain arguments in brackets and quotes, '{where}:{name}(64, 4)', or write "
            f"a function that makes it, `def net(): return {name}(...)`, and give FILE.py:net"
        ) from error
    if not isinstance(made, nn.Module):
        raise InputError(f"{where}:{name}() gives a {type(made).__name__}, no torch module")
    return made


def _arguments(call: str) -> tuple[list[Any], dict[str, Any]]:
    """Numbers, texts, lists and the like between brackets; nothing that would have to be run."""
    try:
        node = ast.parse(f"f{call}", mode="eval").body
        if not isinstance(node, ast.Call) or any(k.arg is None for k in node.keywords):
            raise ValueError
        return [ast.literal_eval(a) for a in node.args], {str(k.arg): ast.literal_eval(k.value) for k in node.keywords}
    except (ValueError, SyntaxError, TypeError):
        raise InputError(f"arguments {call}; allowed: plain values, such as (64, 4, batch_first=True)") from None


def _imported(where: str) -> Any:
    if not where.endswith(".py"):
        try:
            return importlib.import_module(where)
        except ModuleNotFoundError as error:
            raise InputError(
                f"there is no Python package or module {where!r} ({error}); for a file of your own give its path, FILE.py:NAME"
            ) from None
        except Exception as error:
            raise ModelError(f"importing {where!r} failed: {_where(error)}") from error
    path = Path(where).expanduser()
    if not path.is_file():
        near = nearest(path.name, (p.name for p in path.parent.glob("*.py")), n=3) if path.parent.is_dir() else []
        raise InputError(f"there is no file {where!r}" + (f"; nearest: {', '.join(map(repr, near))}" if near else ""))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise InputError(f"{where!r} cannot be read as Python")
    module = importlib.util.module_from_spec(spec)
    before = sys.modules.get(path.stem)
    sys.path.insert(0, str(path.parent.resolve()))  # so that it can import its neighbours, as `python FILE.py` would
    sys.modules[path.stem] = module  # dataclasses and pickles look their module up there
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ModelError(f"running {where!r} failed: {_where(error)}") from error
    finally:
        sys.path.pop(0)
        if before is not None:
            sys.modules[path.stem] = before
    return module


def _where(error: BaseException) -> str:
    """What went wrong and on which line."""
    if isinstance(error, SyntaxError):
        return f"{type(error).__name__}: {error.msg}, line {error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    at = f", {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames and frames[-1].filename != __file__ else ""
    return f"{type(error).__name__}: {error}{at}"


def _shape(given: str) -> tuple[int, ...]:
    """Sizes between commas, crosses or spaces; one comma may stand at the end."""
    plain = given.strip().strip("()[]").strip()
    good = re.fullmatch(r"\d+((\s*[,x×]\s*|\s+)\d+)*\s*,?", plain, re.ASCII)
    shape = tuple(int(part) for part in re.findall(r"\d+", plain)) if good else ()
    if not shape or min(shape) < 1:
        raise InputError(f"input {given!r}; allowed: positive sizes with commas, such as 2,3,64,64")
    return shape


def _unit(given: str | None) -> tuple[str, int] | None:
    if given is None:
        return None
    path, _, unit = given.rpartition(":")
    if not path or not unit.isdigit():
        raise InputError(f"highlight {given!r}; allowed: MODULE:UNIT, such as layers.0.linear1:7")
    return path, int(unit)


def _stem(model: str) -> str:
    """A file name from whatever a network is called."""
    model = model.partition("(")[0]
    last = model.rstrip("/").rsplit(":", 1)[-1] if ":" in model else Path(model.rstrip("/")).name
    return re.sub(r"[^\w.-]+", "-", last).strip("-.") or "network"


def _summary(drawn: Any, target: Path | None) -> dict[str, Any]:
    from nissl.diagrams._sizes import at_example
    from nissl.diagrams.drawing.labels import peak_of

    flops, peak = drawn.flops(), peak_of(drawn)
    return {
        "name": drawn.name,
        "file": None if target is None else str(target),
        "operations": len(drawn.operations),
        "flops": {"formula": str(flops), "example": at_example(drawn, flops)},
        "peak_bytes": None if peak is None else {"formula": str(peak), "example": at_example(drawn, peak)},
        "axes": {n: {"size": a.size, "symbol": str(drawn.size(n))} for n, a in drawn.axes.items()},
        "complete": drawn.complete,
        "notes": list(drawn.notes),
    }


def _say(drawn: Any) -> None:
    from nissl.diagrams.drawing.labels import short

    found = _summary(drawn, None)
    free = ", ".join(f"{s} = {n}" for s, n in drawn.symbols().items())
    typer.echo(f"{drawn.name}: {found['operations']} operations" + ("" if drawn.complete else ", incomplete"))
    for what, key, unit in (("floating-point operations", "flops", ""), ("held at most", "peak_bytes", "B")):
        if found[key] is None:
            continue
        formula, number = found[key]["formula"].replace("**", "^").replace("*", "·"), found[key]["example"]
        here = f" = {short(number).strip()}{unit}" + (f" at {free}" if free else "")
        typer.echo(
            f"{what}: {formula if len(formula) <= 160 else '(long formula; see --json)'}{here if not formula.isdigit() else f' ({short(number).strip()}{unit})'}"
        )
    for note in drawn.notes:
        typer.echo(f"note: {note}")
