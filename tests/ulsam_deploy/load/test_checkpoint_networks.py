"""Recognizing a checkpoint's network, building it strictly, and the user's own factory."""

import copy
import sys
import textwrap
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ulsam_deploy.device import plugins
from ulsam_deploy.device.errors import Exit, ExportError, UlsamError, UsageError
from ulsam_deploy.load.checkpoint import Checkpoint, build, from_factory, identify, input_shape, read, remarks, write
from ulsam_deploy.load.options import LoadOptions
from ulsam_deploy.load.source import load

CONFIG = {"width": 0.35, "classes": 3, "in_channels": 1, "insert": [3], "substitute": [13], "subspaces": 2}


def network(name="mobilenet_v2"):
    return plugins.load(plugins.MODELS, name)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return network().build(CONFIG)


@pytest.fixture
def weights(model: Any):
    return {key: tensor.clone() for key, tensor in model.state_dict().items()}


def of(weights, **metadata) -> Checkpoint:
    return Checkpoint(weights, metadata, "00", "model.pt")


def declared(config, name="mobilenet_v2"):
    return {"ulsam_deploy": {"network": name, "config": config, "input": [1, 96, 96]}}


def test_recognized_by_keys_and_built(model: Any, weights: Any, tmp_path: Path) -> None:
    torch.save({"model": {f"module.{key}": value for key, value in weights.items()}}, tmp_path / "model.pt")
    found = read(tmp_path / "model.pt")
    which, config = identify(found)
    assert (which.name, {key: config[key] for key in CONFIG}) == ("mobilenet_v2", CONFIG)
    built = build(found, which, config)
    assert not built.training
    image = torch.randn(2, 1, 64, 64)
    assert torch.equal(built(image), model(image))


def test_the_other_network() -> None:
    v1 = network("mobilenet_v1")
    config = {"width": 0.25, "classes": 5}
    which, found = identify(of(v1.build(config).state_dict()))
    assert (which.name, found["width"], found["classes"]) == ("mobilenet_v1", 0.25, 5)


def test_variant_is_what_the_user_says(weights: Any) -> None:
    assert identify(of(weights))[1]["variant"] == "reference"
    assert identify(of(weights), variant="pool-of-input")[1]["variant"] == "pool-of-input"
    assert identify(of(weights), arch="mobilenet_v2", variant="pool-of-input")[1]["variant"] == "pool-of-input"


def test_counters_may_be_missing(model: Any, weights: Any) -> None:
    fewer = {key: value for key, value in weights.items() if not key.endswith("num_batches_tracked")}
    built = build(of(fewer), *identify(of(fewer)))
    assert torch.equal(built(torch.ones(1, 1, 64, 64)), model(torch.ones(1, 1, 64, 64)))


def test_every_misfit_is_named_with_the_nearest_guess(weights: Any) -> None:
    weights["features.5.conv.0.0.wieght"] = weights.pop("features.5.conv.0.0.weight")
    weights["classifier.1.weight"] = torch.zeros(4, 1280)
    weights["extra.thing"] = torch.zeros(1)
    with pytest.raises(UsageError) as caught:
        build(of(weights), network(), CONFIG)
    words = str(caught.value)
    assert caught.value.exit_code == Exit.USAGE
    for expected in (
        "1 missing",
        "features.5.conv.0.0.weight (nearest: features.5.conv.0.0.wieght)",
        "2 unexpected",
        "extra.thing",
        "classifier.1.weight is 4x1280, not 3x1280",
    ):
        assert expected in words


def test_many_misfits_are_counted_and_not_all_listed(weights: Any) -> None:
    with pytest.raises(UsageError) as caught:
        build(of({"alone": torch.zeros(1)}), network(), CONFIG)
    assert "... and" in str(caught.value)
    assert len(str(caught.value).splitlines()) < 20


def test_unknown_keys_list_the_networks_and_the_flags() -> None:
    with pytest.raises(UsageError) as caught:
        identify(of({"conv.weight": torch.zeros(1)}))
    for expected in ("mobilenet_v1", "mobilenet_v2", "--arch", "--model PKG.MODULE:FACTORY", "conv.weight"):
        assert expected in str(caught.value)


def test_damaged_weights_are_compared_with_the_closest_configuration(weights: Any) -> None:
    weights["features.5.conv.0.0.wieght"] = weights.pop("features.5.conv.0.0.weight")
    with pytest.raises(UsageError, match=r"features\.5\.conv\.0\.0\.weight \(nearest"):
        identify(of(weights))


def test_arch_names_a_network_or_a_configuration(weights: Any) -> None:
    assert identify(of(weights), arch="mobilenet_v2")[0].name == "mobilenet_v2"
    with pytest.raises(UsageError, match="no known network"):
        identify(of(weights), arch="mobilenet_v1")
    name, config = next(iter(network().named().items()))
    assert identify(of(weights), arch=name) == (network(), dict(config))


def test_unknown_arch_gets_near_names(weights: Any) -> None:
    with pytest.raises(UsageError, match="mobilenet_v2") as caught:
        identify(of(weights), arch="mobilnet_v2")
    assert caught.value.exit_code == Exit.USAGE


def test_what_the_file_says_of_itself_is_used(weights: Any) -> None:
    config = {**CONFIG, "width": 0.34, "variant": "pool-of-input"}  # 0.34 builds the same shapes as 0.35
    assert identify(of(weights, **declared(config)))[1] == config


@pytest.mark.parametrize(
    "change",
    [
        {"classes": 4},
        {"insert": [3, 4]},
        {"substitute": []},
        {"subspaces": 4},
        {"width": 1.0},
        {"width": 0.4},
        {"width": 10**9},
        {"width": "wide"},
        {"classes": 10**12},
        {"subspaces": 10**9},
        {"insert": list(range(100_000))},
        {"variant": "no-such-variant"},
        {"unknown": 1},
        {"insert": {"a": 1}},
    ],
    ids=str,
)
def test_what_the_file_says_is_held_against_its_weights(weights: Any, change: Any) -> None:
    with pytest.raises(ExportError, match="contradict"):
        identify(of(weights, **declared({**CONFIG, **change})))


@pytest.mark.parametrize(
    "value", ["text", None, 7, [], {"network": []}, {"network": "nobody's"}, {"config": {}}], ids=str
)
def test_nonsense_about_itself_is_ignored(weights: Any, value: Any) -> None:
    assert identify(of(weights, ulsam_deploy=value))[0].name == "mobilenet_v2"


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ([1, 96, 64], (1, 96, 64)),
        ([3, 96, 96], (1, 224, 224)),
        ([1, 0, 96], (1, 224, 224)),
        ([1, 96, 10**9], (1, 224, 224)),
        ([1, 96.0, 96], (1, 224, 224)),
        ([1, 96], (1, 224, 224)),
        ("1x96x96", (1, 224, 224)),
        (None, (1, 224, 224)),
    ],
)
def test_input_is_what_the_file_says_if_that_makes_sense(weights: Any, told: Any, expected: Any) -> None:
    said = {"network": "mobilenet_v2", "config": CONFIG, "input": told}
    shape, assumed = input_shape(of(weights, ulsam_deploy=said), network(), CONFIG)
    assert shape == expected
    assert ("1x224x224 was assumed" in assumed) == (told != [1, 96, 64]), "what is assumed is said, and nothing else"
    shape, assumed = input_shape(of(weights), network(), CONFIG)
    assert shape == (1, 224, 224)
    assert "does not say what it was trained at" in assumed


def test_remarks_are_of_the_file_and_of_the_network(weights: Any) -> None:
    found = Checkpoint(weights, {}, "00", "model.pt", notes=("something was converted",))
    first, second = remarks(found, network())
    assert first == "something was converted"
    assert "bn_dws" in second


def test_read_write_round_trip_of_a_changed_network(model: Any, tmp_path: Path) -> None:
    changed = copy.deepcopy(model)
    with torch.no_grad():
        changed.classifier[1].bias.add_(1)
    write(tmp_path / "new.pt", changed, network(), CONFIG, (1, 64, 64))
    found = read(tmp_path / "new.pt")
    image = torch.randn(1, 1, 64, 64)
    assert torch.equal(build(found, *identify(found))(image), changed(image))


# --- the user's own code ----------------------------------------------------------------------------------------------

CODE = """
    import sys
    import torch
    from torch import nn

    def make():
        import helper_of_the_factory
        return nn.Linear(2, helper_of_the_factory.OUT)

    class Net(nn.Linear):
        def __init__(self):
            super().__init__(2, 3)

    def needs(argument):
        return nn.Linear(2, 3)

    def fails():
        raise ValueError("no such file: weights.bin\\nsecond line")

    def leaves():
        sys.exit(17)

    def text():
        return "a network"

    made = nn.Linear(2, 3)
    number = 3
"""


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A module of this name in the working folder, which is not on the import path."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", str(tmp_path))])
    Path("nets_of_the_user.py").write_text(textwrap.dedent(CODE))
    Path("helper_of_the_factory.py").write_text("OUT = 3\n")
    Path("broken_module.py").write_text("import not_installed_anywhere\n")
    Path("wrong_syntax.py").write_text("def f(:\n")
    yield
    for name in ("nets_of_the_user", "helper_of_the_factory", "broken_module", "wrong_syntax"):
        sys.modules.pop(name, None)


@pytest.mark.usefixtures("code")
@pytest.mark.parametrize("name", ["make", "Net"])
def test_factory_in_the_working_folder(name: str) -> None:
    before = list(sys.path)
    weights = {"weight": torch.ones(3, 2), "bias": torch.zeros(3)}
    model, _ = from_factory(f"nets_of_the_user:{name}", of(weights))
    assert isinstance(model, nn.Module)
    assert not model.training
    assert model(torch.ones(1, 2)).tolist() == [[2.0, 2.0, 2.0]]
    assert sys.path == before


@pytest.mark.usefixtures("code")
def test_factory_without_a_checkpoint() -> None:
    assert isinstance(from_factory("nets_of_the_user:make")[0], nn.Linear)


@pytest.mark.usefixtures("code")
def test_factory_and_weights_that_do_not_fit() -> None:
    with pytest.raises(UsageError, match=r"weight is 1x2, not 3x2"):
        from_factory("nets_of_the_user:make", of({"weight": torch.ones(1, 2), "bias": torch.zeros(3)}))


@pytest.mark.usefixtures("code")
@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("nets_of_the_user", "does not name a factory"),
        (":make", "does not name a factory"),
        ("nets_of_the_user:", "does not name a factory"),
        ("no_such_module:make", "no Python module 'no_such_module'"),
        ("nets_of_the_user.deeper:make", "no Python module 'nets_of_the_user.deeper'"),
        ("..relative:make", "importing"),
        ("nets_of_the_user:maek", "make"),
        ("nets_of_the_user:number", "a int"),
        ("nets_of_the_user:needs", "TypeError.*argument"),
        ("nets_of_the_user:fails", r"failed at \S*nets_of_the_user.py:\d+: ValueError: no such file: weights.bin$"),
        ("nets_of_the_user:leaves", "SystemExit: 17"),
        ("nets_of_the_user:text", "returned a str"),
        ("nets_of_the_user:made", "a network already"),
        ("broken_module:make", "not_installed_anywhere"),
        ("wrong_syntax:make", "SyntaxError"),
    ],
)
def test_mistakes_in_the_users_code_are_one_sentence(spec: str, words: str) -> None:
    before = list(sys.path)
    with pytest.raises(UlsamError, match=f"(?m){words}") as caught:
        from_factory(spec)
    assert caught.value.exit_code == Exit.USAGE
    assert len(str(caught.value).splitlines()) <= 3
    assert sys.path == before


@pytest.mark.usefixtures("code")
def test_the_users_error_is_the_cause() -> None:
    with pytest.raises(UsageError) as caught:
        from_factory("nets_of_the_user:fails")
    assert isinstance(caught.value.__cause__, ValueError)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
@pytest.mark.usefixtures("code")
def test_code_that_wants_a_gpu_is_told_at_which_line_and_what_to_write() -> None:
    Path("needs_gpu.py").write_text("import torch\nscale = torch.ones(1).cuda()\n\ndef build():\n    return None\n")
    with pytest.raises(UsageError, match=r"failed at needs_gpu\.py:2") as caught:
        from_factory("needs_gpu:build")
    assert str(caught.value.todo).startswith(
        "needs_gpu.py:2: write .to('cuda' if torch.cuda.is_available() else 'cpu')"
    )


class Whole(nn.Module):
    """A network whose trainer saves it whole, as ultralytics does."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Hardswish())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x).mean((2, 3))


@pytest.fixture
def whole(tmp_path: Path) -> tuple[Whole, Path]:
    torch.manual_seed(0)
    network = Whole().half().train()
    torch.save({"model": network, "ema": None, "epoch": 3}, tmp_path / "best.pt")
    return network, tmp_path / "best.pt"


def test_a_network_that_was_saved_whole_needs_no_factory(whole: tuple[Whole, Path]) -> None:
    network, path = whole
    source = load(LoadOptions(path, trust_pickle=True, inputs=((3, 16, 16),)))
    assert source.network.endswith(".Whole")
    assert any("float16" in note for note in source.notes)
    image = torch.randn(2, 3, 16, 16)
    assert torch.equal(source.model(image), network.float().eval()(image))


def test_its_input_is_asked_for(whole: tuple[Whole, Path]) -> None:
    with pytest.raises(UsageError, match="whose input shape is not known") as raised:
        load(LoadOptions(whole[1], trust_pickle=True))
    assert "--input 3x224x224" in str(raised.value.todo)


def test_saved_whole_or_not_a_known_network_is_known(model: Any, tmp_path: Path) -> None:
    torch.save(model, tmp_path / "model.pt")
    source = load(LoadOptions(tmp_path / "model.pt", trust_pickle=True))
    assert source.network == "mobilenet_v2"
    assert source.expected_blocks == 2


@pytest.mark.filterwarnings("ignore:.*torch.ao.quantization is deprecated")
def test_quantizers_that_were_trained_are_named_and_the_advice_works(tmp_path: Path) -> None:
    from torch.ao import quantization

    torch.manual_seed(0)
    fake = quantization.FakeQuantize.with_args(
        observer=quantization.MovingAverageMinMaxObserver, quant_min=0, quant_max=255, dtype=torch.quint8
    )
    network = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3)).train()
    network.qconfig = quantization.QConfig(activation=fake, weight=quantization.default_weight_fake_quant)  # type: ignore[assignment]
    prepared = quantization.prepare_qat(network)
    prepared(torch.randn(4, 3, 16, 16))
    torch.save(prepared.state_dict(), tmp_path / "qat.pt")
    with pytest.raises(UsageError) as raised:
        load(LoadOptions(tmp_path / "qat.pt"))
    assert "torch.onnx.export" in str(raised.value.todo)
    prepared.eval().apply(quantization.disable_observer)
    image = torch.randn(1, 3, 16, 16)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(prepared, (image,), tmp_path / "qat.onnx", dynamo=False)
    source = load(LoadOptions(tmp_path / "qat.onnx"))
    assert any("quantizers round" in note for note in source.notes)
    with torch.no_grad():
        (result,) = source.model(image).values()
        assert torch.allclose(result, prepared(image), atol=1e-5)
