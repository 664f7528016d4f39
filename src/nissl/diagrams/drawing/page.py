"""A diagram as an HTML file that needs nothing else."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from nissl.diagrams._sizes import at_example
from nissl.diagrams.circuit import CircuitDiagram, Operation
from nissl.diagrams.drawing.labels import parameters, short, size_label
from nissl.diagrams.drawing.svg import svg_of
from nissl.diagrams.drawing.theme import DARK, LIGHT, Colours, Theme

if TYPE_CHECKING:
    from nissl.diagrams.drawing.picture import View

_STYLE = """
body{font:15px/1.5 system-ui,'DejaVu Sans',sans-serif;margin:1.5rem;background:var(--paper);color:var(--ink)}
.picture{overflow-x:auto}.picture svg{max-width:none}
table{border-collapse:collapse;font-size:13px}th,td{text-align:left;padding:.2rem .7rem .2rem 0;border-bottom:1px solid var(--band);vertical-align:top}
td.n{text-align:right;white-space:nowrap}summary{cursor:pointer;padding:.3rem 0}details details{margin-left:1.2rem}
p.note,td small{color:var(--faint)}code{font-size:12px}
svg.follow .w:not(.on),svg.follow text.wire:not(.on),svg.follow text.again:not(.on){opacity:.15}svg.follow .w.on{stroke-width:3}
"""
_SCRIPT = """
const svg=document.querySelector('svg.ncd');
const key=e=>{const t=e.target.closest('[class~=w],text.wire,text.again,text.key');return t&&[...t.classList].find(c=>/^x\\d+$/.test(c))};
svg.addEventListener('mouseover',e=>{const k=key(e);svg.querySelectorAll('.on').forEach(n=>n.classList.remove('on'));
svg.classList.toggle('follow',!!k);if(k)svg.querySelectorAll('.'+k).forEach(n=>n.classList.add('on'))});
svg.addEventListener('mouseleave',()=>svg.classList.remove('follow'));
"""
ROWS = 5000  # of the table


def page_of(diagram: CircuitDiagram, view: View, theme: Theme) -> str:
    """The picture of a view, and a table of all operations of the diagram it was made from, module in module."""
    style = _variables(DARK if theme == "dark" else LIGHT)
    if theme == "auto":
        style += "@media (prefers-color-scheme:dark){" + _variables(DARK) + "}"
    scheme = "light dark" if theme == "auto" else theme
    notes = "".join(f'<p class="note">{escape(n)}</p>' for n in diagram.notes)
    flops = diagram.flops()
    count = f"{len(diagram.operations)} operations; products and sums {_formula(flops)} flops"
    said = f"{count} ({short(at_example(diagram, flops)).strip()} in this example)."
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f'<meta name="color-scheme" content="{scheme}"><title>{escape(diagram.name)}: circuit diagram</title>',
            f"<style>{style}{_STYLE}</style></head><body>",
            f'<div class="picture">{svg_of(view.picture, theme)}</div>',
            f"<h2>Operations</h2><p>{said} Rest the pointer on a wire or on an axis of the legend to follow it.</p>{notes}",
            _table(diagram),
            f"<script>{_SCRIPT}</script></body></html>",
            "",
        ]
    )


def _variables(colours: Colours) -> str:
    names = ("paper", "ink", "faint", "band")
    return ":root{" + ";".join(f"--{n}:{getattr(colours, n)}" for n in names) + "}"


def _formula(value: object) -> str:
    return escape(str(value).replace("**", "^").replace("*", "·"))


def _table(diagram: CircuitDiagram) -> str:
    """Operations in the order in which they run, each module's folded away under its name."""
    parts: list[str] = []
    open_: list[str] = []
    in_table = False
    for operation in diagram.operations[:ROWS]:
        path = operation.module.split(".") if operation.module else []
        same = 0
        while same < min(len(open_), len(path)) and open_[same] == path[same]:
            same += 1
        if in_table and (same < len(open_) or same < len(path)):
            parts.append("</tbody></table>")
            in_table = False
        parts += ["</details>"] * (len(open_) - same)
        for level in range(same, len(path)):
            whole = ".".join(path[: level + 1])
            label = diagram.boxes[whole].label if whole in diagram.boxes else ""
            parts.append(
                f"<details{' open' if level == 0 else ''}><summary><b>{escape(whole)}</b> {escape(label)}</summary>"
            )
        open_ = path
        if not in_table:
            parts.append(_HEAD)
            in_table = True
        parts.append(_row(diagram, operation))
    parts += ["</tbody></table>"] * in_table + ["</details>"] * len(open_)
    if len(diagram.operations) > ROWS:
        parts.append(f'<p class="note">{len(diagram.operations) - ROWS} more operations are left out.</p>')
    return "".join(parts)


_HEAD = (
    "<table><thead><tr><th>operation</th><th>takes and gives</th><th>acts on</th><th>along</th><th>ends</th><th>begins</th>"
    "<th>flops</th><th>bytes out</th><th>line</th></tr></thead><tbody>"
)


def _row(diagram: CircuitDiagram, operation: Operation) -> str:
    from nissl.diagrams.drawing.labels import bytes_of
    from nissl.diagrams.drawing.stages import Strip

    def typed(names: tuple[str, ...]) -> str:
        return ", ".join(" ".join(diagram.arrays[n].axes) or "scalar" for n in names)

    weights = set(parameters(diagram, operation))
    taken = tuple(n for n in operation.inputs if n not in weights)
    shapes = "".join(
        f"<br><small>{escape(w)} {'×'.join(size_label(diagram, a) for a in diagram.arrays[w].axes)}</small>"
        for w in parameters(diagram, operation)
    )
    mark = "b" if operation.learned else "span"
    held = short(bytes_of(diagram, [Strip(n) for n in operation.outputs]))
    axes = "".join(
        f"<td>{escape(', '.join(a))}</td>"
        for a in (operation.acted, operation.broadcast, operation.contracted, operation.born)
    )
    return (
        f"<tr><td><{mark}>{escape(operation.symbol)}</{mark}>{shapes}</td><td>{escape(typed(taken))} → {escape(typed(operation.outputs))}</td>"
        f'{axes}<td class="n">{_formula(operation.flops)}</td><td class="n">{held}B</td><td><code>{escape(operation.line)}</code></td></tr>'
    )
