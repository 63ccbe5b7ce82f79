"""``benchmarks/gpu``, without a GPU: parts are joined, and no row vanishes, whatever happens to its step."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks" / "gpu"


@pytest.fixture(scope="module", name="modules")
def scripts() -> Iterator[tuple[Any, Any]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(FOLDER), *sys.path])
        yield import_module("prepare"), import_module("run")
        for name in ("prepare", "run"):
            sys.modules.pop(name, None)


@pytest.fixture
def parts(modules: tuple[Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    prepare, run = modules
    monkeypatch.setattr(prepare, "OUTPUT", tmp_path / "parts")
    monkeypatch.setattr(prepare, "LARGEST", 7)
    monkeypatch.setattr(run, "PLACE", tmp_path / "place")
    files = [tmp_path / "small.txt", tmp_path / "large.txt"]
    for path, text in zip(files, ("abc", "0123456789abcdef")):
        path.write_text(text)
    (tmp_path / "parts").mkdir()
    found: list[Path] = prepare.cut(files)
    return found


def test_parts_are_no_larger_than_allowed_and_give_the_files_again(modules: Any, parts: list[Path]) -> None:
    run = modules[1]
    assert [sum(p.stat().st_size for p in part.iterdir() if p.name != "index.json") for part in parts] == [7, 7, 5]
    for part in parts:
        run.collect(part)
    assert run.join() == ""
    assert [(run.PLACE / name).read_text() for name in ("small.txt", "large.txt")] == ["abc", "0123456789abcdef"]


def test_a_part_that_is_missing_or_damaged_is_named(modules: Any, parts: list[Path]) -> None:
    run = modules[1]
    assert run.join() == f"nothing was collected in {run.PLACE}"
    for part in parts[:-1]:
        run.collect(part)
    assert run.join() == "large.txt: no large.txt.2"
    run.collect(parts[-1])
    (run.PLACE / "large.txt.1").write_text("other..")
    assert run.join() == "large.txt: another SHA-256"


def test_every_step_has_its_rows_whatever_happens(
    modules: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = modules[1]
    monkeypatch.setattr(run, "PLACE", tmp_path / "place")
    monkeypatch.setattr(run, "HERE", tmp_path)
    monkeypatch.setattr(run, "STEPS", {"crashed": ("one", "two")})
    row = json.dumps({"what": "one", "result": "ok", "detail": "fine"})
    (tmp_path / "steps.py").write_text(
        "import pathlib, sys, time\n"
        f"pathlib.Path('crashed.jsonl').write_text({row!r})\n"
        "time.sleep(60) if sys.argv[1] == 'late' else sys.exit('out of luck')\n"
    )
    monkeypatch.setattr(run, "join", lambda: "")
    monkeypatch.setattr(run, "install", lambda: "")
    assert run.show(60.0, tmp_path / "out") == 0
    rows = {each["what"]: each for each in json.loads((tmp_path / "out" / "gpu.json").read_text())}
    assert list(rows) == ["files and wheels", "one", "two"]
    assert (rows["one"]["result"], rows["two"]["result"]) == ("ok", "not run")
    assert rows["two"]["detail"] == "exit status 1: out of luck"
    assert (tmp_path / "out" / "gpu.md").read_text().count("\n") == 2 + 3
    monkeypatch.setattr(run, "LEAST", 0.0)
    (late,) = run.filled("late", ("three",), 0.2)
    assert (late.what, late.result) == ("three", "not run")
    assert "took longer than" in late.detail
    monkeypatch.setattr(run, "join", lambda: "large.txt: another SHA-256")
    assert run.show(0.0, tmp_path / "out") == 1
    assert "the time was used up" in (tmp_path / "out" / "gpu.md").read_text()
