"""The report as one HTML file that asks nothing of a network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nissl import specimens
from nissl.report._saving import environment
from nissl.report.pictures import crop, data_uri, detail, framed, overlay

if TYPE_CHECKING:
    from nissl.evaluation import Curve
    from nissl.report.explanation import Explanation

_NAMES = {
    "grad_cam": "Grad-CAM", "integrated_gradients": "Integrated gradients", "occlusion": "Occlusion", "saliency": "Saliency",
    "guided_backprop": "Guided backpropagation", "guided_grad_cam": "Guided Grad-CAM", "input_x_gradient": "Input × gradient", "deep_lift": "DeepLIFT",
    "gradient_shap": "Gradient SHAP", "kernel_shap": "Kernel SHAP", "lime": "LIME",
}  # fmt: skip


def render(explanation: Explanation) -> str:
    """Fill the template; everything it shows is a number, a sentence or a picture made here."""
    return (
        environment()
        .get_template("report.html")
        .render(
            e=explanation,
            photo=data_uri(framed(explanation.photo, explanation.frame, explanation.where)),
            rows=_map_rows(explanation),
            channels=_channel_cards(explanation),
            methods=_method_cards(explanation),
            names={n: method_name(n) for n in explanation.methods},
            tests=_tests(explanation),
            random=_randomised(explanation),
            seconds=sum(explanation.seconds.values()),
        )
    )


def method_name(name: str) -> str:
    """A method's name as people write it."""
    return _NAMES.get(name, name.replace("_", " "))


def _map_rows(e: Explanation) -> list[dict[str, Any]]:
    """Three pictures for the target and three for its rival."""
    rows = []
    for prefix, name in (("", e.target), ("rival_", e.rival)):
        pictures = []
        for key, title, kind, absent in (
            ("grad_cam", "Evidence for", overlay, "No place speaks for it."),
            ("guided", "In detail", detail, "Nothing to show in detail."),
            ("counterfactual", "Evidence against", overlay, "No place speaks against it."),
        ):
            heat = e.maps[f"{prefix}{key}" if prefix else key]
            uri = None if heat is None else data_uri(kind(e.photo, heat, e.frame))
            pictures.append(
                {
                    "title": title,
                    "uri": uri,
                    "absent": absent,
                    "alt": f"{title.lower()} {name}, drawn on the photograph",
                }
            )
        rows.append({"name": name, "probability": e._probability(name), "pictures": pictures})
    return rows


def _channel_cards(e: Explanation) -> list[dict[str, Any]]:
    cards = []
    examples = e.channels.examples.to_dict("records")
    largest = max(abs(e.channels.table["contribution"]).max(), 1e-9)
    for row in e.channels.table.to_dict("records"):
        heat = e.channels.maps.sel(unit=row["unit"])
        crops = [
            {
                "uri": data_uri(
                    crop(specimens.photo(str(x["picture"])), (x["left"], x["top"], x["right"], x["bottom"]))
                ),
                "name": str(x["picture"]).replace("_", " "),
                "activity": x["activity"],
            }
            for x in examples
            if x["unit"] == row["unit"]
        ]
        cards.append(
            {
                "unit": row["unit"], "contribution": row["contribution"], "width": abs(row["contribution"]) / largest,
                "uri": data_uri(overlay(e.photo, heat, e.frame), quality=80), "crops": crops, "peak": row["peak"],
            }
        )  # fmt: skip
    return cards


def _method_cards(e: Explanation) -> list[dict[str, Any]]:
    return [{"name": method_name(n), "uri": data_uri(overlay(e.photo, heat, e.frame))} for n, heat in e.methods.items()]


def _tests(e: Explanation) -> list[dict[str, Any]]:
    """A row a method: both curves as paths, their areas, and what that says."""
    tests = []
    for name in e.methods:
        pair = [_chart(e.deletion[name]), _chart(e.insertion[name])]
        good = [chart["beats"] >= 0.9 for chart in pair]
        words = {2: "passes both tests", 1: "passes one test of two", 0: "passes neither test"}[sum(good)]
        tests.append({"name": method_name(name), "charts": pair, "words": words, "good": sum(good)})
    return tests


def _chart(curve: Curve) -> dict[str, Any]:
    fraction = curve.curve["fraction"].values
    own = curve.curve.mean("sample").values
    copies = curve.control.mean("sample").values
    top = max(float(own.max()), float(copies.max()), 1e-9)
    areas = np.trapezoid(copies, fraction, axis=-1)
    low, high = copies.min(0), copies.max(0)
    return {
        "kind": curve.kind,
        "own": _path(fraction, own / top),
        "control": _path(fraction, copies.mean(0) / top),
        "band": _path(fraction, high / top) + " L" + _path(fraction[::-1], low[::-1] / top)[1:] + " Z",
        "top": top,
        "area": float(np.trapezoid(own, fraction)),
        "control_area": float(areas.mean()),
        "control_low": float(areas.min()),
        "control_high": float(areas.max()),
        "beats": curve.beats,
        "count": len(areas),
    }


def _path(x: np.ndarray, y: np.ndarray, width: float = 240, height: float = 120) -> str:
    points = (f"{width * a:.1f},{height * (1 - b):.1f}" for a, b in zip(x, y, strict=True))
    return "M" + " L".join(points)


def _randomised(e: Explanation) -> list[dict[str, Any]]:
    similar = e.randomised["similarity"].mean("sample")
    return [
        {"layer": str(layer), "value": float(v), "width": max(0.0, float(v))}
        for layer, v in zip(similar["layer"].values, similar.values, strict=True)
    ]
