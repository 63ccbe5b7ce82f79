"""Capture: names and shapes of inputs and outputs, and what it says of a network that it cannot take."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from ulsam_deploy.device.errors import ExportError, UsageError
from ulsam_deploy.graph import Evaluator, capture, signature

from .networks import TwoInputs, UNet
from .spellings import randomise


class Returns(nn.Module):
    """Returns whatever ``value`` makes of a convolution's output."""

    def __init__(self, value: object = lambda y: y) -> None:
        super().__init__()
        self.conv, self.value = nn.Conv2d(3, 4, 1), value

    def forward(self, image: Tensor) -> object:
        return self.value(self.conv(image))


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + 1 if x.sum() > 0 else x - 1


class Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.seen += 1  # type: ignore[assignment]
        return x + self.seen


def names(specs: object) -> list[tuple[str, tuple[int | None, ...]]]:
    return [(spec.name, spec.shape) for spec in specs]  # type: ignore[attr-defined]


def test_inputs_are_named_after_the_arguments_and_outputs_after_the_keys() -> None:
    program = capture(TwoInputs(), [(3, 6, 5), (2, 6, 5)], batch=2)
    assert names(program.inputs) == [("image", (2, 3, 6, 5)), ("depth", (2, 2, 6, 5))]
    assert names(program.outputs) == [("dense", (2, 12, 6, 5)), ("logits", (2, 12))]
    assert program.batch == 2


def test_a_dynamic_batch_is_unnamed_in_every_spec() -> None:
    program = capture(UNet(), [(3, 6, 5)], batch=None)
    assert program.batch is None
    assert names(program.outputs) == [("output_0", (None, 20, 6, 5)), ("output_1_0", (None, 8, 3, 3))]
    example = [torch.randn(5, 3, 6, 5)]
    assert Evaluator(program).run(example)["output_0"].shape == (5, 20, 6, 5)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (lambda y: y, ["output"]),
        (lambda y: y.mean((2, 3)), ["logits"]),
        (lambda y: (y, [y + 1, {"a": y - 1}]), ["output_0", "output_1_0", "output_1_1_a"]),
    ],
)
def test_output_names(value: object, expected: list[str]) -> None:
    assert [spec.name for spec in capture(Returns(value), [(3, 6, 5)]).outputs] == expected


def test_outputs_come_under_their_own_names() -> None:
    network = randomise(Returns(lambda y: {"second": y - 1, "first": y + 1}))
    program = capture(network, [(3, 6, 5)])
    image = program.example()["image"]
    given = Evaluator(program, torch.float32).run([image])
    assert list(given) == ["second", "first"]
    torch.testing.assert_close(given["first"], network.conv(image) + 1)


def test_a_wrong_input_shape_is_a_usage_error_that_names_it() -> None:
    with pytest.raises(UsageError, match="does not run on input 5x6x5") as caught:
        capture(Returns(), [(5, 6, 5)])
    assert "--input" in caught.value.todo


def test_control_flow_that_depends_on_data_is_an_export_error() -> None:
    with pytest.raises(ExportError, match="cannot capture") as caught:
        capture(Branching(), [(3, 6, 5)])
    assert "control flow" in caught.value.expected


def test_a_network_that_returns_no_tensor_is_an_export_error() -> None:
    with pytest.raises(ExportError, match="returns a int"):
        capture(Returns(lambda y: y.ndim), [(3, 6, 5)])


def test_a_network_with_a_memory_is_an_export_error_that_names_the_buffer() -> None:
    with pytest.raises(ExportError, match="its own buffer 'seen'"):
        capture(Counting(), [(3, 6, 5)])


def test_a_network_that_overwrites_its_input_has_no_output_for_that() -> None:
    program = capture(nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(3, 2, 1)), [(3, 6, 5)])
    given = Evaluator(program).run([-torch.ones(1, 3, 6, 5)])
    assert list(given) == ["output"]
    assert len(program.exported.graph.output_node().args[0]) == 1


def test_an_output_that_is_none_is_left_out() -> None:
    program = capture(Returns(lambda y: {"main": y, "aux": None}), [(3, 6, 5)])
    assert [spec.name for spec in program.outputs] == ["main"]
    with pytest.raises(ExportError, match="returns nothing"):
        capture(Returns(lambda y: (None, [None])), [(3, 6, 5)])


@pytest.mark.parametrize("batch", [1, 2, None])
@pytest.mark.parametrize("value", [lambda y: y.reshape(-1, 4), lambda y: (y, y.mean((2, 3)).expand(3, -1, -1))])
def test_an_output_that_does_not_begin_with_the_batch_is_refused_by_name(value: object, batch: int | None) -> None:
    with pytest.raises(ExportError, match=r"output '(logits|output_1)' .* does not begin with the batch"):
        signature(Returns(value), [(3, 6, 5)], batch)


def test_a_batch_that_the_code_states_is_told_from_a_wrong_input() -> None:
    class Baked(Returns):
        def __init__(self) -> None:
            head = nn.Linear(4 * 6 * 5, 2)
            super().__init__(lambda y: head(y.reshape(1, -1)))
            self.head = head

    with pytest.raises(UsageError, match="with a batch of 1 only") as raised:
        capture(Baked(), [(3, 6, 5)], None)
    assert raised.value.todo == "use --batch 1"
    assert capture(Baked(), [(3, 6, 5)], 1).batch == 1
    with pytest.raises(UsageError, match="does not run on input"):
        capture(Baked(), [(3, 7, 5)], None)


def test_a_network_that_chooses_its_own_precision_is_refused() -> None:
    class Mixed(Returns):
        def forward(self, image: Tensor) -> object:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                return super().forward(image)

    with pytest.raises(ExportError, match=r"computes in bfloat16 by itself"):
        capture(Mixed(), [(3, 6, 5)])
    with pytest.raises(ExportError, match=r"computes in float16 by itself"):
        capture(Returns(lambda y: y.half().float()), [(3, 6, 5)])
