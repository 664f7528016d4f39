"""Make the pictures of `docs/networks`: each page's own example is run, and the figure it ends with is saved.

`python docs/pictures.py` makes all of them, `python docs/pictures.py leaky-memory` one.
"""

from __future__ import annotations

import os
import re
import sys
import tempfile
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt

HERE = Path(__file__).resolve().parent
STYLE = {
    "figure.figsize": (8, 4.5), "figure.dpi": 120, "figure.constrained_layout.use": True, "font.size": 10, "axes.titlesize": 10,
    "axes.spines.top": False, "axes.spines.right": False, "savefig.facecolor": "white", "image.interpolation": "nearest",
}  # fmt: skip


def run(page: Path) -> None:
    """Run every block of Python of a page, one after another, as a reader would."""
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL):
        exec(compile(block, page.name, "exec"), names)


def main(chosen: list[str]) -> None:
    pages = [p for p in sorted((HERE / "networks").glob("*.md")) if not chosen or p.stem in chosen]
    for page in pages:
        with tempfile.TemporaryDirectory() as folder, mpl.rc_context(STYLE):
            os.chdir(folder)
            run(page)
            if plt.get_fignums():
                plt.gcf().savefig(HERE / "img" / f"{page.stem}.png")
                print(HERE / "img" / f"{page.stem}.png")
            plt.close("all")
            os.chdir(HERE)


if __name__ == "__main__":
    main(sys.argv[1:])
