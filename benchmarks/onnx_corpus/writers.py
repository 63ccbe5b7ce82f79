"""The ways in which people make an ONNX file of a PyTorch network: exporter, opset, batch, folding, simplification."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import onnx
import torch
from torch import nn

TORCHSCRIPT, DYNAMO = "TorchScript", "dynamo"


@dataclass(frozen=True)
class Writer:
    """``folded``: batch norms inside convolutions and constants computed; not folded: as they stand in the module."""

    exporter: str
    opset: int
    dynamic: bool = False
    folded: bool = True
    simplified: bool = False

    @property
    def name(self) -> str:
        """One line for a table or a test's name."""
        words = [f"{self.exporter} {self.opset}", "dynamic" if self.dynamic else "static"]
        words += ["folded" if self.folded else "not folded"]
        return ", ".join([*words, "onnxsim"] if self.simplified else words)

    @property
    def batch(self) -> int | None:
        """The batch that the pipeline is asked for."""
        return None if self.dynamic else 1

    def write(self, model: nn.Module, shapes: Sequence[Sequence[int]], path: Path) -> None:
        """Write ``model``, in evaluation mode, for inputs of ``shapes`` without the batch."""
        inputs = tuple(torch.zeros(2 if self.dynamic else 1, *shape) for shape in shapes)
        with torch.no_grad(), _quiet():
            (_torchscript if self.exporter == TORCHSCRIPT else _dynamo)(self, model.eval(), inputs, path)
        if self.simplified:
            import onnxsim

            with contextlib.redirect_stdout(io.StringIO()):
                simple, same = onnxsim.simplify(onnx.load(path))
            assert same, f"onnxsim says that it changed {path.name}"
            onnx.save(simple, path)


def _torchscript(writer: Writer, model: nn.Module, inputs: tuple[torch.Tensor, ...], path: Path) -> None:
    names = [f"in{i}" for i in range(len(inputs))]
    torch.onnx.export(
        model,
        inputs,
        str(path),
        dynamo=False,
        opset_version=writer.opset,
        input_names=names,
        dynamic_axes={name: {0: "N"} for name in names} if writer.dynamic else None,
        # Only "preserve" leaves batch norms as they are; the module is in evaluation mode.
        training=torch.onnx.TrainingMode.EVAL if writer.folded else torch.onnx.TrainingMode.PRESERVE,
        do_constant_folding=writer.folded,
    )


def _dynamo(writer: Writer, model: nn.Module, inputs: tuple[torch.Tensor, ...], path: Path) -> None:
    shapes = None
    if writer.dynamic:
        dim = torch.export.Dim("N", min=1, max=64)
        shapes = tuple({0: dim} for _ in inputs)
    torch.onnx.export(
        model,
        inputs,
        str(path),
        dynamo=True,
        opset_version=writer.opset,
        dynamic_shapes=shapes,
        optimize=writer.folded,
        external_data=False,
        verbose=False,
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what torch's exporters print and warn about themselves."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def writers() -> list[Writer]:
    """TorchScript's opsets from the oldest to the newest, then dynamo's; each way of both.

    Between the opsets taken operators of this family change: softmax and squeezing at 13, batch norm at 14 and 15.
    """
    kinds = [(TORCHSCRIPT, opset) for opset in (11, 13, 15, 17)] + [(DYNAMO, opset) for opset in (18, 20)]
    plain = [
        Writer(exporter, opset, dynamic, folded)
        for exporter, opset in kinds
        for dynamic in (False, True)
        for folded in (True, False)
    ]
    return [replace(writer, simplified=simplified) for writer in plain for simplified in (False, True)]
