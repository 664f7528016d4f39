"""Commands on recordings: `recording FILE` (which is `recording report FILE`) and `recording homogenise`."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core

from nissl.cli._common import JsonOption, SeedOption, print_json, quiet, report_path
from nissl.errors import InputError, nearest


class _FileOrCommand(typer.core.TyperGroup):
    """`nissl recording worm.nwb` means `nissl recording report worm.nwb`."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            near = nearest(args[0], self.commands, n=1, cutoff=0.7)
            if near and not Path(args[0]).exists():
                raise InputError(f"there is no file {args[0]!r}, and no such command; nearest command: {near[0]!r}")
            args = ["report", *args]
        return super().resolve_command(ctx, args)


app = typer.Typer(
    cls=_FileOrCommand,
    no_args_is_help=True,
    help="Recordings of brains. `nissl recording FILE` looks one over and writes a report; `homogenise` brings several onto one clock.",
)


@app.callback()
def _recordings() -> None:
    """Recordings of brains."""


def _known(file: str) -> None:
    """A path that leads nowhere is refused before the models are imported; a bare name may be a sample's."""
    from nissl.recordings._files.opening import existing

    if "." in file or "/" in file:
        existing(file)


def _samples(incomplete: str) -> list[str]:
    from nissl.recordings import simulate

    return [s for s in simulate.samples() if s.startswith(incomplete)]


@app.command(
    epilog="Examples: `nissl recording worm.nwb` · `nissl recording traces.csv --file-rate 4` · `nissl recording motifs` (a simulated sample) · "
    "`nissl recording worms.zarr --animal worm3 --json`"
)
def report(
    file: Annotated[str, typer.Argument(help="A recording (.nwb, .zarr, .nc, .npz, .mat, .h5, .csv, .parquet ...), or a sample: motifs, states.", autocompletion=_samples)],
    out: Annotated[Path, typer.Option("--out", "-o", help="The report: a file ending in .html, or a folder.")] = Path("nissl-out"),
    animal: Annotated[str | None, typer.Option(help="Which one, where there are several.")] = None,
    bin_width: Annotated[float | None, typer.Option(help="Seconds in which spikes are counted.")] = None,
    units: Annotated[int, typer.Option(help="Most units in the models.")] = 40,
    file_rate: Annotated[float | None, typer.Option(help="Samples a second of the file, where it has no clock.")] = None,
    file_activity: Annotated[str | None, typer.Option(help="Key or variable of the traces in the file.")] = None,
    file_time: Annotated[str | None, typer.Option(help="Key or column of the clock, in seconds.")] = None,
    file_units: Annotated[str | None, typer.Option(help="Key or column of the neurons' names.")] = None,
    file_series: Annotated[str | None, typer.Option(help="Series of traces in an NWB file; units for spikes.")] = None,
    orientation: Annotated[str | None, typer.Option(help="'time unit' (a row a sample) or 'unit time', where the file leaves it open.")] = None,
    mend: Annotated[list[str] | None, typer.Option(help="Put right: duplicates, negative, order, outside; may be given several times.")] = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
    open_it: Annotated[bool, typer.Option("--open", help="Open the report in a browser.")] = False,
) -> None:  # fmt: skip
    """Look a recording over: what is missing, states, factors, rhythms, wiring and behaviour, each beside its control."""
    if units < 2:
        raise InputError(f"--units {units}; give 2 or more")
    _known(file)
    path = report_path(out, file)
    asked = {
        "activity": file_activity,
        "time": file_time,
        "units": file_units,
        "series": file_series,
        "orientation": orientation,
        "mend": mend,
    }
    with quiet(as_json), told(as_json) as said:
        import nissl

        found = nissl.survey(
            file, rate=file_rate, bin_width=bin_width, animal=animal, most_units=units, seed=seed, progress=not as_json,
            **{key: value for key, value in asked.items() if value},
        )  # fmt: skip
        found.save(path)
    if as_json:
        print_json({**found.summary(), "warnings": said, "report": str(path)})
    else:
        typer.echo(found.verdict)
        typer.echo(str(path))
    if open_it:
        typer.launch(path.resolve().as_uri())


@app.command(
    epilog="Examples: `nissl recording homogenise worms/ --to worms.zarr --neurons hermaphrodite-300` · "
    "`nissl recording homogenise mouse.nwb --to mouse.zarr --rate 10 --normalise causal` · "
    "`nissl recording homogenise traces/ --to all.zarr --file-rate 30 --file-activity dff`"
)
def homogenise(
    source: Annotated[Path, typer.Argument(metavar="FOLDER", help="A folder with one file an animal (.nwb, .mat, .npz, .csv, .parquet, .zarr, ...), or one file.")],
    to: Annotated[Path, typer.Option(help="The zarr folder to write.")],
    rate: Annotated[float, typer.Option(help="Samples a second of the result.")] = 3.0,
    smooth: Annotated[str, typer.Option(help="Causal smoothing: moving, exponential, gaussian or none.")] = "moving",
    window: Annotated[int, typer.Option(help="Samples, for moving: the mean of the last window // 2 + 1.")] = 15,
    alpha: Annotated[float, typer.Option(help="For exponential, above 0 to 1.")] = 0.5,
    sigma: Annotated[float, typer.Option(help="Samples, for gaussian.")] = 5.0,
    normalise: Annotated[str, typer.Option(help="standard (z-score), causal (z-score by the past only), dF/F, or none.")] = "standard",
    baseline: Annotated[float, typer.Option(help="Seconds of the running baseline, for dF/F.")] = 60.0,
    burn_in: Annotated[float, typer.Option(help="Seconds marked missing at the beginning, for causal.")] = 0.0,
    neurons: Annotated[str | None, typer.Option(help="The common axis: hermaphrodite-300, a text file with a name a line, or names with commas. By default the names that occur.")] = None,
    interpolate: Annotated[str, typer.Option(help="linear, quadratic or cubic.")] = "linear",
    max_gap: Annotated[float | None, typer.Option(help="Longest gap in seconds that is bridged; by default 2.5 intervals.")] = None,
    residual: Annotated[bool, typer.Option(help="Keep rates of change as well.")] = True,
    file_rate: Annotated[float | None, typer.Option(help="Samples a second of the files, where they have no clock.")] = None,
    file_activity: Annotated[str | None, typer.Option(help="Key or variable of the traces in the files.")] = None,
    file_time: Annotated[str | None, typer.Option(help="Key or column of the clock, in seconds.")] = None,
    file_units: Annotated[str | None, typer.Option(help="Key or column of the neurons' names.")] = None,
    file_series: Annotated[str | None, typer.Option(help="Series of traces in NWB files; units for spikes.")] = None,
    orientation: Annotated[str | None, typer.Option(help="'time unit' (a row a sample) or 'unit time', where files leave it open.")] = None,
    mend: Annotated[list[str] | None, typer.Option(help="Put right: duplicates, negative, order, outside; may be given several times.")] = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out files that cannot be used, rather than stop.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a store that is there.")] = False,
    as_json: JsonOption = False,
) -> None:  # fmt: skip
    """Put recordings on one clock, in one order of neurons, on one scale; what is missing stays missing."""
    with quiet(as_json), told(as_json) as said:
        from nissl.recordings._files.opening import opened, requested
        from nissl.recordings._files.saving import refuse_existing
        from nissl.recordings._homogenising.pipeline import homogenise as run
        from nissl.recordings._homogenising.pipeline import zarr_path

        if not (rate > 0):
            raise InputError(f"--rate {rate}; give samples a second, above 0")
        place = zarr_path(to)
        refuse_existing(place, overwrite)
        request = requested(activity=file_activity, time=file_time, units=file_units, rate=file_rate, orientation=orientation, series=file_series, mend=mend or ())  # fmt: skip
        files = opened(source, request, scan=False, skip_bad=skip_bad)
        result = run(
            files, dt=1 / rate, smooth=choice(smooth), window=window, alpha=alpha, sigma=sigma, normalise=choice(normalise), baseline=baseline, burn_in=burn_in,
            neurons=neuron_names(neurons), interpolate=choice(interpolate), max_gap=max_gap, residual=residual, to=place, overwrite=overwrite, skip_bad=skip_bad, progress=not as_json,
        )  # fmt: skip
        rows = summary(result)
    if as_json:
        print_json({"store": str(place), "rate": rate, "animals": rows, "warnings": said})
        return
    for row in rows:
        name = f"{row['animal']}: " if row["animal"] else ""
        rest = f", {row['unlabelled']} unlabelled" if row["unlabelled"] else ""
        typer.echo(f"{name}{row['seconds']:.0f} s, {row['samples']} samples, {row['recorded']} of {row['units']} neurons{rest}, {row['missing']:.1%} missing")  # fmt: skip
    typer.echo(str(place))


def summary(result: Any) -> list[dict[str, Any]]:
    """A row an animal; recordings are read one at a time."""
    import numpy as np
    import xarray as xr

    rows = []
    for animal, r in {"": result}.items() if isinstance(result, xr.Dataset) else result.items():
        time, labelled = r["time"].values, r["labeled"].values
        known = ~np.isnan(r["activity"].values[:, labelled])
        rows.append({
            "animal": animal, "seconds": float(time[-1] - time[0]), "samples": len(time), "units": r.sizes["unit"], "recorded": int(labelled.sum()),
            "unlabelled": int(r.sizes.get("unlabelled", 0)), "missing": float(1 - known.mean()) if known.size else 1.0,
        })  # fmt: skip
    return rows


def choice(text: str) -> Any:
    """A setting, or None for `none`."""
    return None if text.lower() == "none" else text


def neuron_names(text: str | None) -> Any:
    """A list by its name, from a file with a name a line, or between commas."""
    if text is None:
        return None
    from nissl.recordings._homogenising.ordering import LISTS

    if text in LISTS:
        return text
    if Path(text).is_file():
        try:
            names = [line.strip() for line in Path(text).read_text(encoding="utf-8").splitlines() if line.strip()]
        except UnicodeDecodeError:
            raise InputError(f"{text!r} is no UTF-8 text; give a file with a name a line") from None
        if not names:
            raise InputError(f"{text!r} is empty; give a file with a name a line")
        return names
    if "," in text:
        return [name.strip() for name in text.split(",") if name.strip()]
    return text  # an unknown list: the error names the nearest


@contextmanager
def told(silent: bool) -> Iterator[list[str]]:
    """Warnings about recordings as single lines on standard error, and as a list."""
    from nissl.recordings._notes import RecordingWarning

    said: list[str] = []
    before = warnings.showwarning

    def show(message: Any, category: type[Warning], *rest: Any, **more: Any) -> None:
        if not issubclass(category, RecordingWarning):
            before(message, category, *rest, **more)
        elif str(message) not in said:
            said.append(str(message))
            if not silent:
                print(f"nissl: note: {message}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.simplefilter("always", RecordingWarning)
        warnings.showwarning = show
        yield said
