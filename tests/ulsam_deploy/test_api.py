"""The Python API: options that can't drift from the command line's, friendly values, results that show themselves."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import pytest

import ulsam_deploy as ud
from ulsam_deploy.device.bundle import ArtifactRecord, Bundle, Evidence, FileRecord, Manifest, ModelCard
from ulsam_deploy.device.errors import ExportError, UlsamError, UnavailableError, UsageError
from ulsam_deploy.device.findings import ArtifactFacts, Reason, ReasonKind, ReplayDepth, Verdict
from ulsam_deploy.device.types import EvidenceLevel, TensorSpec
from ulsam_deploy.device.verify import Checked
from ulsam_deploy.exporting import conversions, pipeline
from ulsam_deploy.exporting.budget import Budget
from ulsam_deploy.exporting.options import ExportOptions, Recipe


class Caught(NamedTuple):
    options: ExportOptions
    given: Any


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Caught]:
    """``asked(...)``: what ``ud.export(...)`` would ask of the pipeline."""

    class StopError(Exception):
        pass

    def call(*words: Any, **options: Any) -> Caught:
        found: list[Caught] = []

        def note(options: ExportOptions, progress: object, given: object) -> None:
            found.append(Caught(options, given))
            raise StopError

        monkeypatch.setattr(pipeline, "export", note)
        with pytest.raises(StopError):
            ud.export(*words, **options)
        return found[0]

    return call


# --- the signature ---


def test_every_option_is_a_keyword_and_every_keyword_an_option(asked: Any) -> None:
    parameters = inspect.signature(ud.export).parameters
    assert set(parameters) == {field.name for field in dataclasses.fields(ExportOptions)}
    assert not any(p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL) for p in parameters.values())
    assert all(p.annotation not in (p.empty, "Any") for p in parameters.values())
    assert asked("model.pt").options == ExportOptions(Path("model.pt")), "a default differs from the command line's"


def test_every_option_is_documented_and_passed_on(asked: Any) -> None:
    documented = inspect.getdoc(ud.export) or ""
    other: dict[str, tuple[Any, Any]] = {
        "output": ("b", Path("b")), "arch": ("a", "a"), "factory": ("p:f", "p:f"), "variant": ("v", "v"),
        "inputs": ("3x8x9", ((3, 8, 9),)), "batch": (4, 4), "precisions": ("fp16", ("fp16",)),
        "calibration": ("c.npz", Path("c.npz")), "keep": ("a.b", ("a.b",)), "recipes": ({"onnx": Recipe()},) * 2,
        "budget": ({"drop": 0.25}, Budget(drop=0.25)), "data": ("d.npz", Path("d.npz")), "tune": (True, True),
        "preprocessing": ("unit", conversions.preprocessing("unit")), "probes": ("p.npz", Path("p.npz")),
        "device": ("rpi4", "rpi4"), "dla": (True, True), "require": ("executed", EvidenceLevel.EXECUTED),
        "replay": ("full", ReplayDepth.FULL),
        "weights": ("ema", "ema"),
        "trust_pickle": (True, True), "allow_globals": ("m.n", ("m.n",)), "cache": (False, False),
        "targets": ("onnx", ("onnx",)), "watch": ("none", ("none",)),
    }  # fmt: skip
    assert set(other) == {field.name for field in dataclasses.fields(ExportOptions)} - {"model"}
    for name, (given, expected) in other.items():
        assert f"\n    {name}: " in documented, f"Args does not say what {name} is"
        assert getattr(asked("model.pt", **{name: given}).options, name) == expected


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("targets", "onnx,tflite", ("onnx", "tflite")),
        ("targets", ["onnx", "onnx"], ("onnx",)),
        ("precisions", "fp32,int8", ("fp32", "int8")),
        ("precisions", ("int8",), ("int8",)),
        ("batch", "dynamic", None),
        ("batch", None, None),
        ("batch", "4", 4),
        ("inputs", (3, 8, 9), ((3, 8, 9),)),
        ("inputs", ((3, 8, 9), "1x2"), ((3, 8, 9), (1, 2))),
        ("inputs", [np.int64(3), np.int64(8)], ((3, 8),)),
        ("keep", "a,b", ("a,b",)),
        ("budget", Budget(error=2.0), Budget(error=2.0)),
        ("require", EvidenceLevel.PARSED, EvidenceLevel.PARSED),
        ("output", Path("b"), Path("b")),
    ],
)
def test_what_programs_write_is_understood(asked: Any, name: str, given: Any, expected: Any) -> None:
    assert getattr(asked("model.pt", **{name: given}).options, name) == expected


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("model", 3), ("model", None), ("targets", 3), ("targets", [3]), ("precisions", 8), ("batch", 0),
        ("batch", True), ("batch", 1.5), ("batch", "many"), ("inputs", 3), ("inputs", (3, 0, 8)),
        ("inputs", ((3, 8.5),)),
        ("inputs", "3xmany"), ("inputs", ((),)), ("inputs", (None,)), ("output", 3), ("calibration", 3), ("keep", 3),
        ("budget", 3), ("budget", {"drup": 1}), ("budget", {"drop": "much"}), ("require", "proven"),
        ("preprocessing", 3), ("recipes", 3), ("recipes", {"onnx": "int8"}), ("allow_globals", 3),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_a_usage_error(name: str, given: Any) -> None:
    options = {"model": "model.pt", name: given}
    with pytest.raises(UsageError) as error:
        ud.export(**options)
    assert error.value.expected


# --- results ---


def record(target: str, verdict: Verdict, *reasons: str) -> ArtifactRecord:
    level = EvidenceLevel.COMPILED if verdict is Verdict.UNVERIFIED else EvidenceLevel.EXECUTED
    spec = (TensorSpec("x", (1, 3)),)
    files = (FileRecord(f"{target}/model", "0" * 64, 1),)
    told = tuple(Reason(target, ReasonKind.NOT_RUN_NOTE, reason) for reason in reasons)
    return ArtifactRecord(
        target, "fp32", "fp32", files, spec, spec, {}, ArtifactFacts(), Evidence(level, verdict, told)
    )


def bundle_of(*records: ArtifactRecord, name: str = "net") -> Bundle:
    spec = (TensorSpec("x", (1, 3)),)
    return Bundle(Path("net.bundle"), Manifest(ModelCard(name, "0" * 64, "n", {}, spec, spec, (), (), 1), records))


def verification_of(*found: tuple[str, Verdict | UlsamError], targets: tuple[str, ...] = ()) -> ud.Verification:
    items = []
    for target, what in found:
        seen = what if isinstance(what, Verdict) else Verdict.UNVERIFIED
        one = record(target, seen, "Because.")
        error = what if isinstance(what, UlsamError) else None
        items.append(Checked(one, None if error else one.evidence, error))
    return ud.Verification(Path("net.bundle"), tuple(items), targets)


PASS, FAIL, UNTOLD, UNVERIFIED = Verdict.PASS, Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.UNVERIFIED
ABSENT = UnavailableError("no engine", todo="pip install engine")


@pytest.mark.parametrize(
    ("result", "code"),
    [
        (bundle_of(record("onnx", PASS)), 0),
        (bundle_of(record("onnx", PASS), record("trt", UNVERIFIED)), 0),
        (bundle_of(record("onnx", PASS), record("tflite", FAIL)), 1),
        (bundle_of(record("onnx", UNTOLD), record("tflite", FAIL)), 1),
        (bundle_of(record("onnx", PASS), record("tflite", UNTOLD)), 5),
        (bundle_of(record("trt", UNVERIFIED)), 4),
        (bundle_of(), 4),
        (verification_of(("onnx", PASS)), 0),
        (verification_of(("onnx", PASS), ("trt", ABSENT)), 0),
        (verification_of(("onnx", PASS), ("trt", ABSENT), targets=("onnx", "trt")), 4),
        (verification_of(("trt", ABSENT)), 4),
        (verification_of(("onnx", FAIL), ("trt", ABSENT)), 1),
        (verification_of(("onnx", PASS), ("tflite", ExportError("it crashed"))), 3),
        (verification_of(("onnx", UNTOLD)), 5),
    ],
    ids=repr,
)
def test_passed_and_raise_if_failed_say_what_the_exit_code_says(result: Any, code: int) -> None:
    assert result.passed is (code == 0)
    assert result.exit_code == code
    if code == 0:
        result.raise_if_failed()
        return
    with pytest.raises(ud.CheckFailedError) as error:
        result.raise_if_failed()
    assert error.value.exit_code == code
    assert isinstance(error.value, ud.UlsamError)


def test_what_failed_is_named_with_its_reason_and_nothing_else_is() -> None:
    with pytest.raises(ud.CheckFailedError) as error:
        bundle_of(record("onnx", PASS), record("tflite", FAIL, "features.4 differs.")).raise_if_failed()
    assert "tflite fp32 fail: features.4 differs." in error.value.found
    assert "onnx" not in error.value.found
    with pytest.raises(ud.CheckFailedError, match=r"trt fp32 unverified: no engine: pip install engine"):
        verification_of(("trt", ABSENT)).raise_if_failed()


def test_results_show_themselves_in_one_line() -> None:
    bundle = bundle_of(record("onnx", PASS), record("tflite", FAIL, "No.\nNo."))
    assert repr(bundle) == "<Bundle 'net.bundle' of 'net': onnx fp32 pass, tflite fp32 fail>"
    assert repr(verification_of(("onnx", PASS))) == "<Verification of 'net.bundle': onnx fp32 pass>"
    assert "\n" not in repr(bundle_of(record("onnx", PASS), name="a\nb"))


def test_results_are_small_tables_in_a_notebook_and_nothing_in_them_is_html() -> None:
    """A bundle may be a stranger's: names and reasons are shown, never run."""
    evil = "<script>alert(1)</script>"
    for result in (
        bundle_of(record(evil, PASS, evil), name=evil),
        ud.Verification(Path(evil), (Checked(record(evil, PASS, evil), None, ExportError(evil)),)),
    ):
        page = result._repr_html_()
        assert page.startswith("<table>")
        assert "<script" not in page
        assert "&lt;script&gt;" in page
        assert page.count("<tr>") == 2


def test_a_verification_is_a_sequence() -> None:
    found = verification_of(("onnx", PASS), ("tflite", FAIL))
    assert len(found) == 2
    assert [item.record.target for item in found] == ["onnx", "tflite"]
    assert found[0].evidence is not None
    assert found[1:] == (found[1],)


def test_dir_shows_the_verbs_and_all_of_them_are_there() -> None:
    assert {"export", "verify", "open"} <= set(dir(ud))
    assert sorted(ud.__all__) == dir(ud)
    assert all(hasattr(ud, name) for name in dir(ud))


# --- a module in memory ---


def network() -> Any:
    from torch import nn

    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Conv2d(3, 8, 3, 2), nn.Linear(8, 4)

        def forward(self, x: Any) -> Any:
            return self.last(self.first(x).relu().mean((2, 3)))

    return Small()


def test_a_module_is_exported_as_a_copy_and_never_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setenv("ULSAM_DEPLOY_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    model = network().half().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    bundle = ud.export(model, "onnx", inputs=((3, 16, 16),))
    assert bundle.passed
    assert bundle.root == tmp_path / "Small.bundle"
    card = bundle.manifest.model
    assert (card.name, card.network.rpartition(".")[2], card.parameters) == ("Small", "Small", 8 * 27 + 8 + 36)
    assert model.training
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    # Only what follows from a manifest (the report) is kept: what the module's code does cannot be hashed.
    kept = [path.name for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert "golden.npz" not in kept
    assert "model.onnx" not in kept
    with ud.open(bundle, "onnx") as session:
        x = torch.randn(1, 3, 16, 16)
        torch.testing.assert_close(
            torch.from_numpy(session.run(x.numpy())), model.float().eval()(x), rtol=1e-4, atol=1e-4
        )


def test_a_modules_identity_is_its_weights() -> None:
    import torch

    from ulsam_deploy.load.checkpoint import from_module

    model = network()
    same, wrapped = from_module(model), from_module(torch.nn.DataParallel(model))
    assert from_module(model).sha256 == same.sha256 == wrapped.sha256
    assert same.network == wrapped.network
    assert same.model is not model
    with torch.no_grad():
        model.last.bias[0] += 1
    assert from_module(model).sha256 != same.sha256


def not_finite(model: Any) -> Any:
    model.last.bias.data[0] = float("nan")
    return model


def not_to_be_copied(model: Any) -> Any:
    model.__deepcopy__ = lambda memo: 1 / 0
    return model


@pytest.mark.parametrize(
    ("spoil", "options", "said"),
    [
        (not_finite, {"inputs": (3, 16, 16)}, "not finite: last.bias"),
        (not_to_be_copied, {"inputs": (3, 16, 16)}, "can't be copied"),
        (lambda model: model, {}, "input shape"),
        (lambda model: model, {"inputs": (3, 16, 16), "arch": "mobilenet_v2"}, "arch says how a file is read"),
        (lambda model: model, {"inputs": (3, 16, 16), "trust_pickle": True}, "trust_pickle says how a file is read"),
    ],
)
def test_a_module_that_cannot_be_exported_is_an_error_in_words(
    spoil: Any, options: Any, said: str, tmp_path: Path
) -> None:
    with pytest.raises(UlsamError, match=said):
        ud.export(spoil(network()), "onnx", output=tmp_path / "m.bundle", **options)


# --- what was asked for and not reached ---


def test_evidence_that_is_required_and_not_reached_is_an_error(tmp_path: Path) -> None:
    from ulsam_deploy.runtimes.tensorrt import cuda

    if not cuda.missing():
        pytest.skip("there is a GPU: a kit is executed")
    with pytest.raises(UnavailableError) as error:
        ud.export(network(), "trt", inputs=(3, 16, 16), output=tmp_path / "m.bundle", require="executed")
    assert "trt fp32" in error.value.found
    assert "'executed'" in error.value.expected


@pytest.mark.parametrize("met", [True, False])
def test_a_budget_that_nothing_keeps_to_is_an_error(met: bool) -> None:
    """As it is exit 1 on the command line; the bundle is there, and the manifest knows nothing of the budget."""
    from ulsam_deploy import api

    built = SimpleNamespace(evidence=Evidence(EvidenceLevel.EXECUTED, Verdict.PASS))
    found = SimpleNamespace(met=met, sentence="fp32: nothing smaller is good enough")
    outcome = SimpleNamespace(target="onnx", precision="fp32", built=built, error=None, required=True, found=found)
    result: Any = SimpleNamespace(bundle=bundle_of(record("onnx", PASS)), outcomes=(outcome,))
    if met:
        assert api._written(result, ExportOptions(Path("model.pt"))) is result.bundle
        return
    with pytest.raises(ud.CheckFailedError, match=r"onnx fp32 in model.bundle: fp32: nothing smaller is good enough"):
        api._written(result, ExportOptions(Path("model.pt")))
