"""Every file that a command writes: what isn't ours is kept, ``--force`` allows, no bundle gets a file too many."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ulsam_deploy.cli import main
from ulsam_deploy.device.bundle import read_bundle

from ..device.bench.results import measured, noisy, result
from ..handmade import make_bundle

THEIRS = b"years of work"
WRITERS = {
    "new": "new mobilenet_v1 --width 0.25 --classes 2 --input 3x32x32 -o {out}",
    "report": "report {bundle} -o {out}",
    "pack": "pack {bundle} -o {out}",
    "runner": "pack --runner -o {out}",
    "verify sarif": "verify {bundle} --target onnx --sarif {out}",
    "verify junit": "verify {bundle} --target onnx --junit {out}",
    "verify markdown": "verify {bundle} --target onnx --markdown {out}",
    "compare junit": "compare {result} {result} --allow-unknown --junit {out}",
    "bench": "bench {bundle} --targets onnx --profile quick --rounds 1 -o {out}",
    "save-config": "export {net} --target onnx --dry-run --save-config {out}",
}
Places = dict[str, Path]


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Places:
    """A bundle that is fast to run, a result file, and a small checkpoint: a dry run reads it."""
    made = tmp_path_factory.mktemp("outputs")
    words = ["new", "mobilenet_v1", "--width", "0.25", "--classes", "4", "--input", "3x32x32", "-o"]
    assert main([*words, str(made / "net.pt")]) == 0
    (made / "r.json").write_text(result(measured(noisy(12, 1))).to_json())
    dense = make_bundle(made / "dense.bundle", targets=("onnx",)).root
    return {"net": made / "net.pt", "bundle": dense, "result": made / "r.json"}


def run(words: str, places: Places, out: Path, *more: str) -> int:
    return main([*(word.format(**places, out=out) for word in words.split()), *more])


@pytest.mark.parametrize("words", WRITERS.values(), ids=WRITERS)
def test_what_is_not_ours_is_kept_unless_force_says_otherwise(
    words: str, places: Places, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    out.write_bytes(THEIRS)
    assert run(words, places, out) == 2
    told = capsys.readouterr().err
    assert f"'{out}' is there already" in told
    assert "--force" in told
    assert out.read_bytes() == THEIRS
    soft = (0, 5)  # bench: a shared machine may be called busy
    assert run(words, places, out, "--force") in soft
    assert out.read_bytes() != THEIRS
    assert run(words, places, out) in soft, "what the run before left is replaced"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("words", WRITERS.values(), ids=WRITERS)
def test_no_command_puts_anything_into_a_bundle(
    words: str, places: Places, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "link").symlink_to(places["bundle"])
    for out in (places["bundle"] / "out", tmp_path / "link" / "golden.npz", tmp_path / "link" / "onnx" / "out"):
        assert run(words, places, out, "--force") == 2
        assert "would be inside the bundle" in capsys.readouterr().err
    read_bundle(places["bundle"]).verify_integrity()


@pytest.mark.parametrize("words", WRITERS.values(), ids=WRITERS)
def test_a_full_disk_is_told_and_no_device_is_replaced(
    words: str, places: Places, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(words, places, Path("/dev/null")) in (0, 5)
    assert Path("/dev/null").is_char_device()
    capsys.readouterr()
    assert run(words, places, Path("/dev/full")) == 3
    assert "'/dev/full' couldn't be written: No space left" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "work"),
    [
        ("bench {bundle} -o {out}", "ulsam_deploy.device.benchmark.bench_bundles"),
        ("bench {bundle} --junit {out}", "ulsam_deploy.device.benchmark.bench_bundles"),
        ("bench {bundle} --beside {bundle} --beside-output {out}", "ulsam_deploy.device.benchmark.bench_bundles"),
        ("verify {bundle} --markdown {out}", "ulsam_deploy.device.commands.verify_bundle.verify_bundle"),
        ("export {net} --target onnx --junit {out}", "ulsam_deploy.exporting.pipeline.export"),
        (
            "verify --against {net} {bundle}/onnx/model.onnx --junit {out}",
            "ulsam_deploy.cli.verify_against.verify_against",
        ),
        ("verify --against {net} {bundle}/onnx/model.onnx --reproduce {out}", "ulsam_deploy.against.check.Case"),
        ("bench {bundle} --host nowhere.invalid -o {out}", "ulsam_deploy.cli.bench_hosts.at_hosts"),
    ],
)
@pytest.mark.parametrize("where", ["/proc/out", "{bundle}/out", "{result}"])
def test_it_is_found_out_before_the_work_starts(
    words: str,
    work: str,
    where: str,
    places: Places,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("the work began")

    monkeypatch.setattr(work, never)
    if "-o {out}" in words or "beside-output" in words:
        where = where.replace("{result}", "{net}")  # a result file would be replaced by a result file
    out = where.format(**places)
    assert run(words, places, Path(out)) == 2
    assert f"'{out}'" in capsys.readouterr().err.splitlines()[0]


def test_an_export_and_its_reports_do_not_get_into_each_others_way(
    places: Places, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.bundle").mkdir()
    words = "export {net} --target onnx -o {out} --junit"
    for junit in ("{out}/j.xml", "{out}"):
        path = junit.format(out=tmp_path / "x.bundle")
        assert run(words, places, tmp_path / "x.bundle", path) == 2
    assert run("export {net} --target onnx -o {out}/sub.bundle", places, places["bundle"]) == 2
    assert "would be inside the bundle" in capsys.readouterr().err
    assert run("verify {bundle} --junit {out} --markdown {out}", places, tmp_path / "both") == 2
    assert "two files were to be written" in capsys.readouterr().err


def test_a_folder_is_never_replaced_not_even_by_force(places: Places, tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_bytes(THEIRS)
    for words in (*WRITERS.values(), "export {net} --target onnx -o {out}"):
        assert run(words, places, tmp_path / "thesis", "--force") == 2
    assert (tmp_path / "thesis" / "chapter.tex").read_bytes() == THEIRS


def test_a_sweep_keeps_a_report_that_is_not_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "results").mkdir()
    planned = SimpleNamespace(title="sweep", cells=(), output=str(tmp_path / "results"))
    monkeypatch.setattr("ulsam_deploy.sweep.plan.read", lambda *_: planned)
    ran: list[object] = []
    monkeypatch.setattr("ulsam_deploy.sweep.running.Run", lambda *_: ran.append(1))
    for name in ("report.md", "report.json"):
        report = tmp_path / "results" / name
        report.write_bytes(THEIRS)
        assert main(["sweep", "sweep.toml"]) == 2
        assert "is there already" in capsys.readouterr().err
        assert report.read_bytes() == THEIRS
        report.unlink()
    assert ran == []


def test_a_checkpoint_that_was_trained_meanwhile_is_kept_by_its_default_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = "new mobilenet_v1 --width 0.25 --classes 2 --input 3x32x32"
    assert main(words.split()) == 0
    made = (tmp_path / "mobilenet_v1.pt").read_bytes()
    assert main(words.split()) == 0, "the same words make the same bytes: nothing is lost"
    trained = made.replace(b"mobilenet", b"MOBILENET")
    (tmp_path / "mobilenet_v1.pt").write_bytes(trained)
    assert main(words.split()) == 2
    assert (tmp_path / "mobilenet_v1.pt").read_bytes() == trained


def test_a_document_and_a_file_do_not_share_stdout(places: Places, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("verify {bundle} --junit /dev/stdout", places, Path(), "--json") == 2
    assert "is where --json prints" in json.loads(capsys.readouterr().out)["found"]
