"""Local replay: an honest artifact agrees in every form that engines show; a wrong module is named in any precision.

The artifact here is torch itself, in the precision and with the fault in question; it shows what an engine would show.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from ulsam_deploy.device.arrays import Array
from ulsam_deploy.device.findings import Replay
from ulsam_deploy.graph import Evaluator, Program, capture
from ulsam_deploy.graph.modules import module_of
from ulsam_deploy.graph.replay.replaying import Batch, replay
from ulsam_deploy.graph.replay.rounding import ALLOWED
from ulsam_deploy.graph.replay.walk import SUSPECT

SHAPE = (3, 16, 16)
DTYPES = {"fp32": torch.float32, "fp16": torch.float16}
Fault = Callable[[str, Any], Any]


class Gated(nn.Module):
    """A convolution, a pool, a softmax over space that weights the features, and a head with a mean."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU6())
        self.pool = nn.MaxPool2d(3, 1, 1)
        self.score = nn.Conv2d(8, 1, 1)
        self.body = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        scores = self.score(self.pool(x))
        a = scores.flatten(2).mul(3).softmax(2).view_as(scores)
        return torch.as_tensor(self.head(torch.relu(self.body(x * (1 + 20 * a))).mean((2, 3))))


@pytest.fixture(scope="module")
def program() -> Program:
    torch.manual_seed(0)
    model = Gated().train()
    with torch.no_grad():
        for _ in range(20):
            model(torch.randn(8, *SHAPE))
    return capture(model.eval(), [SHAPE])


class Engine(Evaluator):
    """Shows every value; ``fault`` changes the result of any module before it goes on."""

    def __init__(self, program: Program, precision: str, fault: Fault) -> None:
        super().__init__(program, DTYPES[precision])
        self._fault = fault

    def _value(self, node: Any, values: Any) -> Any:
        value = super()._value(node, values)
        name = str(node.target).split(".")[1] if "." in str(node.target) else ""
        return self._fault(f"{module_of(node)}:{name}", value) if isinstance(value, Tensor) else value


def shown(program: Program, precision: str, fault: Fault, number: int) -> Batch:
    """One batch as the faulty engine computes it."""
    given = torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(number))
    engine = Engine(program, precision, fault)
    inside = {
        f"{node.name}": value.float().numpy()
        for node, value in engine.every([given])
        if isinstance(value, Tensor) and value.is_floating_point()
    }
    outputs = {name: value.float().numpy() for name, value in engine.run([given]).items()}
    return Batch({program.inputs[0].name: given.numpy()}, inside, outputs)


def found(
    program: Program, precision: str, fault: Fault, see: Callable[[Batch], Batch] = lambda batch: batch
) -> Replay:
    return replay(program, precision, [see(shown(program, precision, fault, number)) for number in range(2)])[0]


def honest(_: str, value: Tensor) -> Tensor:
    return value


def at(place: str, change: Callable[[Tensor], Tensor]) -> Fault:
    return lambda where, value: change(value) if where == place else value


FAULTS = {
    "relu6 is relu of nothing": ("stem.2", at("stem.2:hardtanh", lambda y: y - 0.3)),
    "a pool left out": ("pool", at("pool:max_pool2d", lambda y: nn.functional.avg_pool2d(y, 3, 1, 1))),
    "a map moved by a column": ("", at(":softmax", lambda a: a.roll(1, -1))),
    "attention uniform": ("", at(":softmax", lambda a: torch.full_like(a, 1 / a.shape[-1]))),
    "attention gone": ("", at(":softmax", lambda a: a * 0)),
    "a channel scaled": ("body", at("body:conv2d", lambda y: y * torch.tensor([1.5, *[1] * 7]).view(1, 8, 1, 1).to(y))),
    "a class score off": ("head", at("head:linear", lambda y: y + torch.tensor([0, 0, 0.5, 0, 0]).to(y))),
}


@pytest.mark.parametrize("precision", DTYPES)
@pytest.mark.parametrize("name", FAULTS)
def test_a_wrong_module_is_named_in_any_precision(program: Program, name: str, precision: str) -> None:
    module, fault = FAULTS[name]
    result = found(program, precision, fault)
    assert [each.module for each in result.wrong] == [module]
    assert result.wrong[0].ratio is not None
    assert result.wrong[0].ratio > 2 * ALLOWED
    assert not result.proves


def fused(batch: Batch) -> Batch:
    """An engine that folds batch norms and activations shows neither a convolution's own result nor its norm's."""
    kept = {name: v for name, v in batch.inside.items() if not name.startswith(("conv2d", "getitem", "add", "mul_1"))}
    return Batch(batch.inputs, kept, batch.outputs)


def channels_last(batch: Batch) -> Batch:
    moved = {name: np.moveaxis(v, 1, -1) if v.ndim == 4 else v for name, v in batch.inside.items()}
    return Batch(batch.inputs, moved, batch.outputs)


def nameless(batch: Batch) -> Batch:
    """No name helps, and the order says nothing."""
    names = sorted(batch.inside, key=lambda name: hash(name) % 97)
    return Batch(batch.inputs, {str(i): batch.inside[name] for i, name in enumerate(names)}, batch.outputs)


@pytest.mark.parametrize("precision", DTYPES)
@pytest.mark.parametrize("see", [lambda batch: batch, fused, channels_last, nameless])
def test_an_honest_artifact_is_proven_whatever_is_shown(
    program: Program, precision: str, see: Callable[[Batch], Batch]
) -> None:
    result = found(program, precision, honest, see)
    assert result.wrong == ()
    assert result.proves
    assert result.worst is not None
    assert result.worst.ratio is not None
    assert result.worst.ratio < ALLOWED / 2


@pytest.mark.parametrize("precision", DTYPES)
@pytest.mark.parametrize("name", ["a pool left out", "attention gone", "a class score off"])
def test_a_wrong_module_is_found_behind_what_is_fused(program: Program, name: str, precision: str) -> None:
    assert found(program, precision, FAULTS[name][1], fused).wrong


def test_what_is_not_shown_is_no_proof(program: Program) -> None:
    """Without any inner value nothing is known, and nothing is wrong."""
    result = found(program, "fp32", honest, lambda batch: Batch(batch.inputs, {}, batch.outputs))
    assert result.wrong == ()
    assert not result.proves
    assert not result.outputs


class Untrained(nn.Module):
    """Batch norms as they begin: they change a result by 5e-6 of it, which is little more than its rounding."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(3 if i == 0 else 32, 32, 3, padding=1, bias=False) for i in range(4))
        self.norms = nn.ModuleList(nn.BatchNorm2d(32) for _ in range(4))
        self.head = nn.Linear(32, 5)

    def forward(self, x: Tensor) -> Tensor:
        for number, (conv, norm) in enumerate(zip(self.convs, self.norms)):
            before = nn.functional.silu(norm(conv(x)))
            x = before + x if number % 2 else before
        return torch.as_tensor(self.head(x.mean((2, 3))))


@pytest.mark.parametrize("fault", ["", "norms.2"])
def test_a_norm_that_does_next_to_nothing_is_not_taken_for_its_convolution(fault: str) -> None:
    torch.manual_seed(0)
    program = capture(Untrained().eval(), [SHAPE])
    changed = at(f"{fault}:", lambda y: y * 1.01) if fault else honest

    def folded(batch: Batch) -> Batch:
        kept = {name: value for name, value in batch.inside.items() if not name.startswith("conv2d")}
        return Batch(batch.inputs, kept, batch.outputs)

    result = found(program, "fp32", changed, folded)
    assert bool(result.wrong) == bool(fault)
    assert result.proves != bool(fault)
    if not fault:
        assert all(module.ratio is None or module.ratio < SUSPECT for module in result.modules), result.modules


def quantized(value: Array, step: float) -> Array:
    return np.round(value / step) * step


@pytest.mark.parametrize(("step", "is_rounding"), [(6 / 255, True), (3.0, False)])
def test_a_quantized_tensor_is_off_by_half_a_step(program: Program, step: float, is_rounding: bool) -> None:
    def stored(where: str, value: Tensor) -> Tensor:
        if where != "stem.2:hardtanh":
            return value
        array = quantized(value.numpy(), step) + (0 if is_rounding else 1.0)
        return torch.from_numpy(array.astype(np.float32))

    batches = [shown(program, "fp32", stored, number) for number in range(2)]
    assert bool(replay(program, "int8", batches)[0].wrong) is not is_rounding


class Means(nn.Module):
    """Sums of 4,096 values that hardly differ: every rounding of a running sum has the same sign."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return torch.as_tensor(self.head(x.abs().add(0.1).mean((2, 3))))


@pytest.mark.parametrize("factor", [1.0, 1.0 - 1e-3])
def test_adding_one_after_the_other_is_honest_and_a_wrong_factor_is_not(factor: float) -> None:
    torch.manual_seed(0)
    program = capture(Means().eval(), [(8, 64, 64)])
    image = np.random.default_rng(0).normal(0, 1e-8, (1, 8, 64, 64)).astype(np.float32)
    with torch.no_grad():
        features = torch.from_numpy(image).abs().add(0.1).numpy()
    mean = np.cumsum(features.reshape(1, 8, -1), axis=2, dtype=np.float32)[:, :, -1] / np.float32(4096)
    mean *= np.float32(factor)
    weight, bias = (program.exported.state_dict[f"model.head.{name}"].detach().numpy() for name in ("weight", "bias"))
    logits = mean @ weight.T + bias
    (output,) = program.outputs
    inside = {"features": features, "mean": mean, "logits": logits}
    result, _ = replay(program, "fp32", [Batch({program.inputs[0].name: image}, inside, {output.name: logits})])
    assert result.proves == (factor == 1.0), result.worst


class Boxes(nn.Module):
    """Boxes in pixels and scores in 0..1 in one output."""

    def __init__(self) -> None:
        super().__init__()
        self.boxes, self.scores = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([300 * self.boxes(x).abs(), self.scores(x).sigmoid()], 1)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("factor", [1.0, 0.0, 1.002])
def test_what_is_done_to_an_output_behind_the_network_is_found(factor: float, precision: str) -> None:
    """The right result is inside as well, and next to nothing of the output changes."""
    torch.manual_seed(0)
    program = capture(Boxes().eval(), [SHAPE])
    batch = shown(program, "fp32", honest, 0)
    ((name, right),) = batch.outputs.items()
    done = right * np.where(np.arange(6) < 4, 1, factor).astype(np.float32).reshape(1, 6, 1, 1)
    result, _ = replay(program, precision, [Batch(batch.inputs, {**batch.inside, "done": done}, {name: done})])
    assert bool(result.wrong) is (factor != 1.0)
    assert result.proves is (factor == 1.0)


class Rare(nn.Module):
    """Scores of rare things, as a new detector has them: a sigmoid far below zero."""

    def __init__(self) -> None:
        super().__init__()
        self.score = nn.Conv2d(8, 4, 1)
        nn.init.constant_(self.score.bias, -11.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.score(x).sigmoid()


@pytest.mark.parametrize("factor", [1.0, 1.0 + 0.2])
def test_a_function_is_as_accurate_as_its_range_and_a_wrong_factor_is_not_honest(factor: float) -> None:
    """ONNX Runtime's own sigmoid: an error of two roundings of 1, where the result is 1e-5."""
    torch.manual_seed(0)
    network = Rare().eval()
    program = capture(network, [(8, 16, 16)])
    image = np.random.default_rng(0).normal(size=(1, 8, 16, 16)).astype(np.float32)
    with torch.no_grad():
        scores = network.score(torch.from_numpy(image)).numpy()
    sigmoid = onnx.helper.make_graph(
        [onnx.helper.make_node("Sigmoid", ["x"], ["y"])],
        "sigmoid",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, list(scores.shape))],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, list(scores.shape))],
    )
    model = onnx.helper.make_model(sigmoid, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    (result,) = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": scores})
    result = result * np.float32(factor)
    (output,) = program.outputs
    inside = {"scores": scores, "result": result}
    found, _ = replay(program, "fp32", [Batch({program.inputs[0].name: image}, inside, {output.name: result})])
    assert found.proves == (factor == 1.0), found.worst
