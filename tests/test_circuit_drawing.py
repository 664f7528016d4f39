"""Pictures of circuit diagrams: what the SVG says is what the diagram says, and it can be read."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sympy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from nissl.diagrams import Array, Box, CircuitDiagram, Operation, circuit
from nissl.diagrams.circuit import Axis
from nissl.diagrams.drawing import draw, overlapping, remembering, save, to_html, to_image, to_svg
from nissl.diagrams.drawing.picture import view_of
from nissl.diagrams.drawing.primitives import Picture, Text
from nissl.diagrams.drawing.stages import Strip, stages
from nissl.errors import InputError, StoreError, UnknownNameError

SVG = "{http://www.w3.org/2000/svg}"


class Residual(nn.Module):
    def __init__(self, width: int = 12, hidden: int = 20) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, hidden), nn.Linear(hidden, width, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.down(torch.relu(self.up(self.norm(x))))


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(12, 12) for _ in range(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        b, t, _ = x.shape
        q, k, v = (f(x).view(b, t, 3, 4).transpose(1, 2) for f in (self.q, self.k, self.v))
        weights = (q @ k.transpose(-1, -2) / 2).softmax(-1)
        return x + self.out((weights @ v).transpose(1, 2).reshape(b, t, 12))


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down, self.mid = nn.Conv2d(1, 4, 3, padding=1), nn.Conv2d(4, 8, 3, padding=1)
        self.up, self.last = nn.ConvTranspose2d(8, 4, 2, stride=2), nn.Conv2d(8, 2, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        skip = self.down(x).relu()
        low = self.mid(nn.functional.avg_pool2d(skip, 2)).relu()
        return self.last(torch.cat([self.up(low), skip], 1))


def loop() -> CircuitDiagram:
    """A recurrent step: the state goes back to the start."""
    axes = {"batch": Axis("batch", 3), "in": Axis("in", 5), "state": Axis("state", 7)}
    shapes = {"u": ("batch", "in"), "h": ("batch", "state"), "a": ("batch", "state"), "b": ("batch", "state"), "c": ("batch", "state")}  # fmt: skip
    arrays = {n: Array(n, s, role="input" if n == "u" else "activation") for n, s in shapes.items()}
    arrays |= {
        "W": Array("W", ("state", "in"), role="parameter"),
        "R": Array("R", ("state", "state"), role="parameter"),
    }
    arrays["energy"] = Array("energy", ())
    steps = (
        Operation("in", "linear", "linear", ("u", "W"), ("a",), contracted=("in",), born=("state",), broadcast=("batch",), learned=True),
        Operation("back", "linear", "linear", ("h", "R"), ("b",), acted=("state",), broadcast=("batch",), learned=True),
        Operation("add", "elementwise", "+", ("a", "b"), ("c",), broadcast=("batch", "state")),
        Operation("tanh", "elementwise", "tanh", ("c",), ("h",), broadcast=("batch", "state")),
        Operation("energy", "reduction", "sum", ("h",), ("energy",), contracted=("batch", "state")),
    )  # fmt: skip
    return CircuitDiagram("loop", axes, arrays, steps, ("u",), ("energy",), feedback=frozenset({"h"}))


@pytest.fixture(scope="module")
def diagrams() -> dict[str, CircuitDiagram]:
    torch.manual_seed(0)
    x = torch.zeros(2, 5, 12)
    blocks = nn.Sequential(*[Residual() for _ in range(12)])
    return {
        "residual": circuit(Residual(), x, axes="batch time model"),
        "attention": circuit(Attention(), x, axes="batch time model"),
        "blocks": circuit(blocks, x, axes="batch time model"),
        "unet": circuit(UNet(), torch.zeros(2, 1, 8, 6), axes="batch channel y x"),
        "encoder": circuit(nn.TransformerEncoderLayer(12, 3, 20, batch_first=True), x, axes="batch time model"),
        "loop": loop(),
    }


NAMES = ("residual", "attention", "blocks", "unet", "encoder", "loop")


def parts(svg: str, tag: str, kind: str) -> list[ET.Element]:
    root = ET.fromstring(svg)
    return [e for e in root.iter(SVG + tag) if kind in e.get("class", "").split()]


@pytest.mark.parametrize("name", NAMES)
def test_each_column_has_a_dashed_line_less_than_it_has_arrays(diagrams: dict[str, CircuitDiagram], name: str) -> None:
    shown = view_of(diagrams[name]).diagram
    plan = stages(shown)
    columns = parts(to_svg(diagrams[name]), "g", "column")
    assert [c.get("data-index") for c in columns] == [str(i) for i in range(len(plan.columns))]
    for column, strips in zip(columns, plan.columns, strict=True):
        lines = [e for e in column.iter(SVG + "line") if e.get("class") == "strip"]
        assert len(lines) == max(len(strips) - 1, 0)


@pytest.mark.parametrize("name", NAMES)
def test_every_wire_is_named_where_it_begins_and_nowhere_else(diagrams: dict[str, CircuitDiagram], name: str) -> None:
    shown = view_of(diagrams[name]).diagram
    made = [n for o in shown.operations for n in o.outputs]
    begun = [*shown.inputs, *made, *shown.feedback]
    expected = sorted((n, a) for n in begun for a in shown.arrays[n].axes)
    found = sorted((e.get("data-array"), e.get("data-axis")) for e in parts(to_svg(diagrams[name]), "text", "wire"))
    assert found == expected


@pytest.mark.parametrize("name", ["residual", "attention", "unet", "encoder"])
def test_the_shape_of_every_weight_can_be_read_off(diagrams: dict[str, CircuitDiagram], name: str) -> None:
    modules = {"residual": Residual(), "attention": Attention(), "unet": UNet(), "encoder": nn.TransformerEncoderLayer(12, 3, 20, batch_first=True)}  # fmt: skip
    labels = parts(to_svg(diagrams[name], fold=False, depth=9), "text", "weight")
    found = {e.get("data-parameter"): tuple(map(int, (e.get("data-shape") or "").split())) for e in labels}
    assert found == {n: tuple(p.shape) for n, p in modules[name].named_parameters()}
    for e in labels:
        assert (e.get("data-shape") or "").replace(" ", "×") in (e.text or "")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("width", [420, 1120])
def test_no_text_lies_on_another_or_leaves_the_page(diagrams: dict[str, CircuitDiagram], name: str, width: int) -> None:
    for options in ({}, {"depth": 0}, {"fold": False}, {"costs": False}):
        assert overlapping(view_of(diagrams[name], width=width, **options).picture) == []


def test_the_checker_sees_texts_that_overlap() -> None:
    two = tuple(Text(x, 20, "model 16", 10, "wire") for x in (10.0, 40.0))
    assert overlapping(Picture(200, 40, "", "", two)) == [("model 16", "model 16")]
    assert overlapping(Picture(60, 40, "", "", two[:1])) == []
    assert overlapping(Picture(50, 40, "", "", two[1:])) == [("model 16", "page")]


@pytest.mark.parametrize("name", NAMES)
def test_operations_say_whether_they_learn(diagrams: dict[str, CircuitDiagram], name: str) -> None:
    shown = view_of(diagrams[name]).diagram
    svg = to_svg(diagrams[name])
    found = {e.get("data-name"): e for e in parts(svg, "g", "operation")}
    assert set(found) == {o.name for o in shown.operations}
    for o in shown.operations:
        assert found[o.name].get("data-learned") == str(o.learned).lower()
        assert any(e.get("class", "").startswith("bold") for e in found[o.name]) == o.learned


def test_broadcast_wires_pass_a_box_and_acted_ones_end_in_it() -> None:
    axes = {"a": Axis("a", 2), "b": Axis("b", 3)}
    arrays = {n: Array(n, ("a", "b"), role="input" if n == "x" else "activation") for n in "xy"}
    step = Operation("s", "normalisation", "softmax", ("x",), ("y",), acted=("b",), broadcast=("a",))
    picture = view_of(CircuitDiagram("d", axes, arrays, (step,), ("x",), ("y",))).picture
    ys = sorted({t.y - 3.4 for t in picture.flat() if isinstance(t, Text) and t.style == "wire"})
    box = next(p for p in picture.flat() if getattr(p, "style", "") == "box")
    paths = [p for p in picture.flat() if getattr(p, "style", "") == "w"]
    middle = (box.extent.left + box.extent.right) / 2
    over = [p for p in paths if p.pieces[0][1][0] < box.extent.left - 1 and p.pieces[-1][1][0] > box.extent.right + 1]
    assert {round(p.pieces[0][1][1], 3) for p in over} == {round(ys[0], 3)}
    assert box.extent.top < ys[1] < box.extent.bottom
    assert not box.extent.top < ys[0] < box.extent.bottom
    for p in paths:
        if abs(p.pieces[0][1][1] - ys[1]) < 0.1 and p not in over:
            assert not min(q[1][0] for q in p.pieces) < middle < max(q[1][0] for q in p.pieces)


def test_what_is_fed_back_goes_over_the_top() -> None:
    picture = view_of(loop()).picture
    highest = min(t.extent.top for t in picture.flat() if isinstance(t, Text) and t.style == "wire")
    paths = [p for p in picture.flat() if getattr(p, "style", "") == "w"]
    back = [p for p in paths if min(v[1] for _, v in p.pieces) < highest - 3 and p.pieces[0][1][0] > p.pieces[-1][1][0] and len(p.pieces) > 4]  # fmt: skip
    assert len(back) == 2  # batch and state
    plan = stages(loop())
    assert Strip("h", True) in plan.columns[0]
    assert Strip("h") in plan.columns[-1]


def test_independent_projections_share_a_column(diagrams: dict[str, CircuitDiagram]) -> None:
    plan = stages(diagrams["attention"])
    first = {o.module for o in plan.operations[0]}
    assert first == {"q", "k", "v"}


def test_the_same_diagram_gives_the_same_bytes_and_few_of_them(diagrams: dict[str, CircuitDiagram]) -> None:
    for name in NAMES:
        assert to_svg(diagrams[name]) == to_svg(diagrams[name])
        assert len(to_svg(diagrams[name]).encode()) < 100_000


def test_themes(diagrams: dict[str, CircuitDiagram]) -> None:
    auto, light, dark = (to_svg(diagrams["residual"], theme=t) for t in ("auto", "light", "dark"))
    assert "prefers-color-scheme:dark" in auto
    assert "prefers-color-scheme" not in light + dark
    assert light.replace("x", "") != dark.replace("x", "")
    with pytest.raises(UnknownNameError, match="'dark'"):
        to_svg(diagrams["residual"], theme="darc")


@settings(max_examples=40, deadline=None)
@given(st.text(min_size=1, max_size=40))
def test_whatever_a_model_calls_its_parts_stays_text(name: str) -> None:
    evil = f'<script>alert("{name}")</script>&'
    arrays = {n: Array(n, (evil,), role="input" if n == "x" else "activation") for n in ("x", evil)}
    step = Operation(evil, "opaque", evil, ("x",), (evil,), module=evil.replace(".", ""), acted=(evil,), line=evil)
    d = CircuitDiagram(evil, {evil: Axis(evil, 2)}, arrays, (step,), ("x",), (evil,), notes=(evil,))
    root = ET.fromstring(to_svg(d))
    assert not [e for e in root.iter() if e.tag.endswith("script")]
    assert to_html(d).count("<script>") == 1  # the page's own


def test_a_unit_is_followed(diagrams: dict[str, CircuitDiagram]) -> None:
    d = diagrams["attention"]
    found = view_of(d, highlight=("v", 3))
    assert found.reach is not None
    assert set(found.reach.axis.split()) <= set(d.arrays[found.reach.array].axes)
    svg = to_svg(d, highlight=("v", 3))
    assert " dim" in svg
    assert "it reaches" in svg
    assert " dim" not in to_svg(d)
    with pytest.raises(InputError, match="0 to 11"):
        to_svg(d, highlight=("v", 12))
    with pytest.raises(UnknownNameError, match="module 'w'"):
        to_svg(d, highlight=("w", 0))


def test_files(diagrams: dict[str, CircuitDiagram], tmp_path: Path) -> None:
    d = diagrams["residual"]
    for suffix in (".svg", ".png", ".html"):
        path = save(d, tmp_path / "new" / f"d{suffix}", theme="dark")
        assert path.stat().st_size > 1000
    with Image.open(tmp_path / "new" / "d.png") as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    assert (pixels[0, 0] < 60).all()  # dark
    assert (pixels.max(axis=2) > 180).any()
    save(d, tmp_path / "d.json")
    save(d, tmp_path / "d.txt")
    assert "linear" in (tmp_path / "d.txt").read_text()
    with pytest.raises(InputError, match=r"'.gif'.*\.svg, \.png, \.html, \.txt, \.json"):
        save(d, tmp_path / "d.gif")
    with pytest.raises(InputError, match="takes no options"):
        save(d, tmp_path / "d.json", depth=1)
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError):
        save(d, tmp_path / "file" / "d.svg")


def test_the_page_needs_nothing_else(diagrams: dict[str, CircuitDiagram]) -> None:
    page = to_html(diagrams["blocks"])
    assert not re.findall(r'(?:src|href)="|url\(|@import', page)
    assert page.count("<details") == page.count("</details>")
    assert page.count("<table>") == page.count("</table>")
    rows = page.count("<tr><td>")
    assert rows == len(diagrams["blocks"].operations)


def test_pixels_and_svg_have_one_size(diagrams: dict[str, CircuitDiagram]) -> None:
    root = ET.fromstring(to_svg(diagrams["unet"]))
    image = to_image(diagrams["unet"], scale=1.0)
    assert abs(image.width - float(root.get("width", 0))) <= 1
    assert abs(image.height - float(root.get("height", 0))) <= 1


def test_costs_are_those_of_the_whole(diagrams: dict[str, CircuitDiagram]) -> None:
    d = diagrams["blocks"]
    svg = to_svg(d)
    shown = view_of(d).diagram
    assert "× 12" in svg
    assert sympy.expand(shown.flops() - d.flops()) == 0
    assert f"{len(d.operations)} operations, drawn as {len(shown.operations)}" in svg


def test_bad_input(diagrams: dict[str, CircuitDiagram]) -> None:
    d = diagrams["residual"]
    with pytest.raises(InputError, match="300 pixels"):
        to_svg(d, width=20)
    with pytest.raises(InputError, match="depth -1"):
        to_svg(d, depth=-1)
    with pytest.raises(InputError, match="pair of a module's path and a unit"):
        to_svg(d, highlight="v")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no operations"):
        to_svg(replace(d, operations=(), outputs=d.inputs))
    huge = Picture(1e6, 1e6, "", "", ())
    from nissl.diagrams.drawing.png import image_of

    with pytest.raises(InputError, match="too large for a PNG"):
        image_of(huge)


def test_a_module_is_traced_once_while_it_stays_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    from nissl.diagrams import deriving

    calls: list[int] = []
    real = deriving.circuit
    monkeypatch.setattr(deriving, "circuit", lambda *a, **k: calls.append(1) or real(*a, **k))
    module, x = nn.Sequential(Residual(), nn.Dropout(0.1)), torch.zeros(2, 5, 12)
    first = draw(module, x, axes="batch time model")
    assert draw(module, x, axes="batch time model") == first
    assert draw(module, torch.ones(2, 5, 12), axes="batch time model", depth=0) != ""
    assert len(calls) == 1
    draw(module, torch.zeros(2, 6, 12), axes="batch time model")
    draw(module, x, axes="b t m")
    assert len(calls) == 3
    module[0].down = nn.Linear(20, 12)  # a bias more
    changed = draw(module, x, axes="batch time model")
    assert len(calls) == 4
    assert changed != first
    module[1].p = 0.5
    draw(module, x, axes="batch time model")
    module[0].register_forward_hook(lambda m, i, o: o * 2)
    hooked = draw(module, x, axes="batch time model")
    assert len(calls) == 6
    assert hooked != changed
    draw(module, x, axes="batch time model", fresh=True)
    assert len(calls) == 7
    module.something = object()  # cannot be seen: nothing is remembered
    assert remembering._key(module, x) is None


def test_boxes_that_stand_side_by_side_keep_their_frames_apart() -> None:
    module = nn.Sequential(nn.Sequential(nn.Linear(4, 5), nn.ReLU()), nn.Sequential(nn.Linear(5, 6), nn.Tanh()))
    d = circuit(module, torch.zeros(3, 4), axes="batch in")
    assert isinstance(d.boxes["0"], Box)
    frames = [p.extent for p in view_of(d, fold=False).picture.flat() if getattr(p, "style", "") == "fence"]
    assert len(frames) == 2
    assert not frames[0].meets(frames[1])


def test_a_repeated_layer_of_one_step_says_how_often_and_whose_costs_stand_there() -> None:
    svg = to_svg(circuit(torch.nn.Sequential(*[torch.nn.Linear(4, 4) for _ in range(9)]), (2, 4)))
    assert "Linear × 9" in svg
    assert "that of all N" in svg


def test_without_costs_none_are_said() -> None:
    d = circuit(torch.nn.Linear(4, 4), (2, 4))
    bare = to_svg(d, costs=False)
    assert not any(w in bare for w in ("floating-point", "held", "flop:"))
    assert all(w in to_svg(d) for w in ("floating-point", "held at once", "flop:"))


def test_a_module_that_is_folded_away_is_opened_to_follow_a_unit_of_it() -> None:
    block = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Tanh(), torch.nn.Linear(4, 4))
    net = torch.nn.Sequential(torch.nn.Sequential(block, torch.nn.Tanh()), torch.nn.Tanh())
    found = view_of(circuit(net, (2, 4)), depth=0, highlight=("0.0.0", 1))
    assert found.reach is not None
    assert found.reach.array in {n for o in found.diagram.operations for n in o.outputs}
    assert "upper bound" in to_svg(circuit(net, (2, 4)), depth=0, highlight=("0.0.0", 1))


def test_a_large_png_says_that_it_was_scaled(monkeypatch: pytest.MonkeyPatch) -> None:
    from nissl.diagrams.drawing import png

    d = circuit(torch.nn.Linear(4, 4), (2, 4))
    monkeypatch.setattr(png, "LARGEST", 3_000_000)
    with pytest.warns(UserWarning, match="scaled down"):
        small = to_image(d)
    monkeypatch.undo()
    assert small.width < to_image(d).width
