"""Tables on narrow terminals: no line too long, no word broken, nothing left out."""

from __future__ import annotations

import re
import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ulsam_deploy.device.commands import words
from ulsam_deploy.device.commands.layout import laid_out

KEPT = " ".join(["1.00"] * 17)
ARTIFACTS = [
    ("onnx", "onnx-fp32/model.onnx", "13.9 MB", "executed", "3.56x noise", KEPT, "0.50 ms", "pass"),
    ("onnx", "onnx-int8/model.onnx", "3.9 MB", "executed", "0.56x noise", KEPT, "0.40 ms", "inconclusive"),
    ("tflite", "tflite/model.tflite", "1.6 MB", "emulated-on-device-cpu", "far off", "-", "-", "unverified"),
]
TIMED = [("onnx fp32", *["0.4567 ms"] * 6, "123.4 MB", "2190", "12.3 mJ", "1.23 [1.2, 1.26]", "disturbed")]
COMPARED = [("onnx int8", "regression", "12.3 % longer [11, 13]", "at most 5 % longer", "fail")]
TABLES = {
    "artifacts": (words.ARTIFACT_COLUMNS, ARTIFACTS),
    "timings": (
        ("artifact", "p50", "p90", "p95", "p99", "first", "load", "memory", "a second", "energy", "times as long", "c"),
        TIMED,
    ),
    "gate": (("artifact", "limit", "found", "allowed", "verdict"), COMPARED),
    "doctor": (
        ("can it", "backend", "here", "found", "do this"),
        [
            ("make", "onnx", "yes", "torch 2.13.0+cpu, onnx 1.23.2, onnxscript 0.7.2, onnxsim 0.8.1", ""),
            ("run", "tensorrt", "no", "no NVIDIA driver (libcuda.so.1)", "run the kit where there is a GPU"),
        ],
    ),
}


def shown(name: str, width: int, kind: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", kind)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    words.print_table(*TABLES[name])
    return re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)


@pytest.mark.parametrize("kind", ["xterm", "dumb"])
@pytest.mark.parametrize("width", [60, 80, 120, 200])
@pytest.mark.parametrize("name", TABLES)
def test_every_word_is_whole(
    name: str, width: int, kind: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = shown(name, width, kind, monkeypatch, capsys)
    assert max(map(len, text.splitlines())) <= width
    found = text.split()
    columns, rows = TABLES[name]
    for word in (word for row in (columns, *rows) for cell in row for word in cell.split()):
        assert word in found


def test_wide_enough_it_is_one_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert shown("doctor", 200, "dumb", monkeypatch, capsys) == words.table(*TABLES["doctor"]) + "\n"


def test_a_pipe_gets_whole_lines(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    words.print_table(*TABLES["artifacts"])
    assert capsys.readouterr().out == words.table(*TABLES["artifacts"]) + "\n"


def test_each_part_begins_with_what_tells_its_rows_apart() -> None:
    first, *further = laid_out(*TABLES["artifacts"], width=80)
    assert first.columns[:2] == ("target", "artifact")
    assert further
    assert all(part.columns[:2] == ("target", "artifact") for part in further)
    assert laid_out(*TABLES["timings"], width=80)[1].columns[0] == "artifact"


def test_a_row_that_has_no_more_to_say_is_left_out_below() -> None:
    *_, last = laid_out(*TABLES["doctor"], width=60)
    assert last.columns[-1] == "do this"
    assert [row[0] for row in last.rows] == [("run",)]


CELL = st.text("abc -", max_size=30)


@example([["aaaaaaaaa", "", "", ""], ["", "", "", "aaaaaaa"], ["", "a", "", ""]], 20)
@given(st.integers(1, 7).flatmap(lambda n: st.lists(st.lists(CELL, min_size=n, max_size=n), min_size=1, max_size=4)),
       st.integers(20, 90))  # fmt: skip
def test_any_table_keeps_all_its_words_within_the_width(rows: list[list[str]], width: int) -> None:
    parts = laid_out(rows[0], rows[1:], width)
    for part in parts:
        assert sum(part.widths) + 2 * (len(part.widths) - 1) <= width or len(part.columns) <= 2
        for row in part.rows:
            for cell, size in zip(row, part.widths):
                assert all(len(line) <= size for line in cell)
    kept = [word for part in parts for row in part.rows for cell in row for line in cell for word in line.split()]
    assert {word for row in rows[1:] for cell in row for word in cell.split()} <= set(kept)
