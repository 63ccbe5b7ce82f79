"""What is drawn: graphs whose boxes hold their words, plots in the page's own colours, maps as bytes, and trends."""

from __future__ import annotations

import base64
import re
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ulsam_deploy.device import maps
from ulsam_deploy.device.bench.result import Condition
from ulsam_deploy.device.errors import RefusedError
from ulsam_deploy.device.findings import Step
from ulsam_deploy.device.maps import Maps
from ulsam_deploy.report import drawing, plots, viewer
from ulsam_deploy.report.comparison import Figures, comparison
from ulsam_deploy.report.timed import TimedPart

from .conftest import BLOCKS, golden
from .conftest import maps as handmade
from .results import result


@st.composite
def graphs(draw: st.DrawFn) -> list[Step]:
    steps: list[Step] = []
    for number in range(draw(st.integers(0, 14))):
        sources = draw(st.lists(st.integers(-1, number - 1), max_size=3, unique=True))
        steps.append(Step("x" * draw(st.integers(1, 40)), "", tuple(sources)))
    return steps


@given(graphs())
def test_boxes_hold_their_words_and_never_touch_and_edges_lead_down(steps: list[Step]) -> None:
    picture = drawing.drawn("graph", steps)
    nodes = picture["nodes"]
    assert len(nodes) == len(steps) + 1
    for node in nodes:
        assert node["width"] >= 6 * len(node["name"])
        assert 0 <= node["x"] <= picture["width"] - node["width"]
        assert node["y"] + picture["box"] <= picture["height"]
    for row in {node["y"] for node in nodes}:
        lefts = sorted(node["x"] for node in nodes if node["y"] == row)
        assert all(right - left >= nodes[0]["width"] for left, right in pairwise(lefts))
    assert len(picture["edges"]) == sum(len(step.sources) for step in steps)
    assert all(y1 < y2 for _, y1, _, y2 in picture["edges"])


CURVES = [plots.PlotCurve(f"artifact {i}", np.linspace(1 + i, 2 + i, 41).tolist(), {"p50": 1.5 + i}) for i in range(3)]
POINTS = [plots.PlotPoint("fast", 1, 9), plots.PlotPoint("exact", 9, 1), plots.PlotPoint("neither", 9.5, 9.5)]


def drawings(name: str) -> list[str]:
    return [
        plots.latency_plot(CURVES, name),
        plots.pareto_plot(POINTS, "ms", name),
        plots.trend_plot({"onnx": [1.0, None, 3.0]}, ["a", "b", "c"], "ms", name),
    ]


def test_plots_are_svg_in_variables_only_and_the_same_each_time() -> None:
    for svg, again in zip(drawings("a"), drawings("a")):
        assert svg == again
        assert ET.fromstring(svg).attrib["aria-label"]
        assert re.findall(r"#[0-9a-f]{6}\b", svg.replace("#ffffff", "")) == [], (
            "a colour that the dark page can't change"
        )
        assert "var(--ink)" in svg
        assert "http" not in re.sub(r'xmlns(:\w+)?="[^"]*"', "", svg)


def test_two_plots_on_one_page_share_no_identifier() -> None:
    found = [set(re.findall(r'\bid="([^"]+)"', svg)) for svg in (*drawings("a"), *drawings("b"))]
    used = [set(re.findall(r'(?:href="|url\()#([^")]+)', svg)) for svg in (*drawings("a"), *drawings("b"))]
    for own, references in zip(found, used):
        assert references <= own
    assert not found[0] & found[3]


def test_only_points_that_nothing_beats_are_joined() -> None:
    assert [p.label for p in POINTS if not any(plots._beats(q, p) for q in POINTS)] == ["fast", "exact"]


def test_maps_are_read_as_written_and_damage_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "maps.npz"
    written = handmade()
    written.save(path)
    read = Maps.load(path)
    assert (read.probes, read.shapes, read.naive, read.missing) == (
        written.probes, written.shapes, written.naive, written.missing,
    )  # fmt: skip
    for name in BLOCKS:
        np.testing.assert_array_equal(read.reference[name], written.reference[name])
    assert list(read.engines["tflite fp32"]) == ["stage.1"]
    first = path.read_bytes()
    handmade().save(path)
    assert path.read_bytes() == first
    path.write_bytes(first[: len(first) // 2])
    with pytest.raises(RefusedError, match="not a sound set of maps"):
        Maps.load(path)


def test_an_engines_maps_are_found_among_other_tensors_in_either_layout() -> None:
    reference = handmade().reference["stage.1"]
    decoys = [np.random.default_rng(i).normal(size=tuple(reference.shape)).astype(np.float32) for i in range(3)]
    other = handmade(seed=9).reference["stage.1"]
    for own in (reference, np.moveaxis(reference, 1, -1), reference.reshape(2, 4, 1, 256)):
        found = maps._nearest([*decoys, other, np.ascontiguousarray(own)], BLOCKS["stage.1"], reference)
        np.testing.assert_array_equal(found, reference)
    assert maps._nearest(decoys, BLOCKS["stage.1"], reference) is None


@given(st.integers(1, 300), st.integers(1, 300))
def test_large_maps_are_averaged_down(height: int, width: int) -> None:
    small = maps.pooled(np.full((1, 1, height, width), 0.25))
    assert max(small.shape) <= maps.SIDE
    np.testing.assert_allclose(small, 0.25)


def test_real_probes_are_shown_first() -> None:
    probes = golden()
    assert [probes.probes[row] for row in maps.chosen(probes, 10)][:2] == ["natural-0", "natural-1"]
    assert len(maps.chosen(probes, 10**6)) == 1


def test_the_viewers_bytes_are_the_maps() -> None:
    shown = handmade()
    data = viewer.viewer_data(shown, golden())
    assert data
    levels = np.frombuffer(base64.b64decode(data["reference"][0]["cells"]), np.uint8).reshape(2, 4, 16, 16)
    scales = np.array(data["reference"][0]["scales"])[..., None, None]
    np.testing.assert_allclose(levels / 255 * scales, shown.reference["stage.1"], atol=scales.max() / 255)
    change = data["engines"][0]["differences"][0]
    signed = np.frombuffer(base64.b64decode(change["cells"]), np.uint8).reshape(2, 4, 16, 16).astype(float)
    apart = shown.engines["onnx fp32"]["stage.1"] - shown.reference["stage.1"]
    np.testing.assert_allclose((signed - 127.5) / 127.5 * np.array(change["scales"])[..., None, None], apart, atol=1e-4)
    assert len(base64.b64decode(data["heat"])) == 3 * 256


def test_a_trend_leaves_a_gap_where_a_file_lacks_an_artifact() -> None:
    old = {"onnx fp32": Figures("Linux", "pass", 2_000_000, 1.0, 1.0, 2.0, 3.0)}
    new = {"onnx fp32": Figures("Linux", "fail", 1_000_000, p50=3.0), "trt fp32": Figures("Linux", "unverified", 9)}
    held = comparison([("old", old), ("new", new)])
    assert held["rows"] == [
        ("old", "Linux", "onnx fp32", "pass", "1.00", "1.00", "2.000", "3.000", "2.00"),
        ("new", "Linux", "onnx fp32", "fail", "n/a", "n/a", "3.000", "n/a", "1.00"),
        ("new", "Linux", "trt fp32", "unverified", "n/a", "n/a", "n/a", "n/a", "0.00"),
    ]
    assert all(len(row) == len(held["columns"]) for row in held["rows"])
    assert [caption.split()[1] for _, caption in held["plots"]] == ["median", "files"], "one point is no trend"
    assert not any("different machines" in note for note in held["notes"])


@pytest.mark.parametrize(("count", "step"), [(2, 1), (10, 1), (25, 3)])
def test_a_trend_names_its_builds_the_last_one_always(count: int, step: int) -> None:
    names = [f"build{number}" for number in range(count)]
    svg = plots.trend_plot({"onnx": [1.0] * count}, names, "ms", "n")
    assert re.findall(r">(build\d+)</text>", svg) == names[::-1][::step]


def test_times_of_different_machines_are_called_that() -> None:
    parts = [
        TimedPart("a", result()),
        TimedPart("b", result(1.0, Condition.UNKNOWN, "Another Pi")),
        TimedPart("c", result(1.5)),
    ]
    held = comparison([(p.name, p.figures()) for p in parts])
    assert any("different machines" in note for note in held["notes"])
    svg = held["plots"][0][0]
    for words in ("onnx fp32, Kitchen Pi", "onnx fp32, Another Pi"):
        assert words in svg, "one line may not join two machines"
    assert [part.verdict.value for part in parts] == ["pass", "unverified", "pass"]
