"""Every contender's artifact: what people make of a network today, and what this project makes of it.

    python makers.py GROUP NETWORK CONTENDER FOLDER

makes one, in a process of its own: some tools crash, and all of them change how others behave. A maker takes
``(model, example, folder)`` and returns the file to play; it raises what its tool raises. "ours" is the pipeline's own:
captured, fused, lowered, exported; the network is not proven here, ``benchmarks/peers.py`` compares every contender's
answer with PyTorch's instead. The backbone takes the same pipeline: it has no block, so nothing is rewritten.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from networks import GROUPS, POINTS
from players import ports
from torch import Tensor, nn

from ulsam_deploy.device import plugins
from ulsam_deploy.graph import capture, fuse_attention, lower
from ulsam_deploy.graph.interfaces import ExportRequest

__all__ = ["CONTENDERS", "Contender", "Maker"]

Maker = Callable[[nn.Module, Tensor, Path], Path]


@dataclass(frozen=True)
class Contender:
    """One way to run a network. ``player`` names a function of :mod:`.players`; the others are for the table."""

    engine: str
    form: str
    player: str
    make: Maker

    @property
    def name(self) -> str:
        """``ONNX Runtime, naive``."""
        return f"{self.engine}, {self.form}"


def pytorch(model: nn.Module, example: Tensor, folder: Path) -> Path:  # noqa: ARG001
    """The module itself."""
    torch.save(model, folder / "model.pt")
    return folder / "model.pt"


def naive_onnx(model: nn.Module, example: Tensor, folder: Path) -> Path:
    """``torch.onnx.export`` with its own defaults."""
    path = folder / "model.onnx"
    torch.onnx.export(
        model, (example,), path, input_names=["input"], output_names=["output"], external_data=False, verbose=False
    )  # fmt: skip
    return path


def naive_openvino(model: nn.Module, example: Tensor, folder: Path) -> Path:
    """``openvino.convert_model`` on the module, fp32 kept."""
    from ulsam_deploy.device.third_party import load_openvino

    openvino = load_openvino()
    converted = openvino.convert_model(model, example_input=example, input=[list(example.shape)])
    for port, name in ((converted.inputs[0], "input"), (converted.outputs[0], "output")):
        port.get_tensor().set_names({name})
    openvino.save_model(converted, folder / "model.xml", compress_to_fp16=False)
    return folder / "model.xml"


def naive_litert(model: nn.Module, example: Tensor, folder: Path) -> Path:
    """``litert_torch.convert`` on the module."""
    import litert_torch

    litert_torch.config.show_progress = False
    converted = litert_torch.convert(model, (example,))
    converted.export(os.fspath(folder / "model.tflite"))
    return folder / "model.tflite"


def executorch(model: nn.Module, example: Tensor, folder: Path) -> Path:
    """ExecuTorch with everything that XNNPACK takes."""
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    program = to_edge_transform_and_lower(torch.export.export(model, (example,)), partitioner=[XnnpackPartitioner()])
    (folder / "model.pte").write_bytes(program.to_executorch().buffer)
    return folder / "model.pte"


def iree(model: nn.Module, example: Tensor, folder: Path) -> Path:
    """IREE for this CPU, from the naive ONNX file."""
    from iree.compiler.tools import compile_file

    naive_onnx(model, example, folder)
    taking = [sys.executable, "-m", "iree.compiler.tools.import_onnx", "model.onnx", "-o", "model.mlir"]
    subprocess.run(taking, cwd=folder, check=True, capture_output=True, timeout=600)
    said = ["--iree-hal-target-device=local", "--iree-hal-local-target-device-backends=llvm-cpu"]
    said += ["--iree-llvmcpu-target-cpu=host", "--iree-opt-level=O3"]
    path = os.fspath(folder / "model.vmfb")
    compile_file(os.fspath(folder / "model.mlir"), output_file=path, extra_args=said)
    return folder / "model.vmfb"


def ours(target: str) -> Maker:
    """The maker of this project's artifact for ``target``."""

    def make(model: nn.Module, example: Tensor, folder: Path) -> Path:
        exporter, request = plugins.load(plugins.EXPORTERS, target), ExportRequest()
        fused = fuse_attention(capture(model, [tuple(example.shape[1:])], len(example)))
        made = exporter.export(lower(fused, exporter.lowering(request)), request, folder)
        return folder / str(made.files[0])

    return make


CONTENDERS = (
    Contender("PyTorch", "eager", "eager", pytorch),
    Contender("PyTorch", "torch.compile", "compiled", pytorch),
    Contender("ONNX Runtime", "naive", "onnxruntime", naive_onnx),
    Contender("ONNX Runtime", "ours", "onnxruntime", ours("onnx")),
    Contender("OpenVINO", "naive", "openvino", naive_openvino),
    Contender("OpenVINO", "ours", "openvino", ours("openvino")),
    Contender("LiteRT", "naive", "tflite", naive_litert),
    Contender("LiteRT", "ours", "tflite", ours("tflite")),
    Contender("ExecuTorch, XNNPACK", "naive", "executorch", executorch),
    Contender("IREE", "naive", "iree", iree),
)


def main() -> None:
    """Make what the command line says; beside it, ``made.json`` names the file and its ports, or says what failed."""
    group, network, contender, name = sys.argv[1:]
    folder, chosen = Path(name), next(each for each in CONTENDERS if each.name == contender)
    known = GROUPS | {point.name: point for points in POINTS.values() for point in points.values()}
    model, shape = known[group].build(network), (known[group].batch, *known[group].shape)
    example = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    np.save(folder / "feed.npy", example.numpy())
    began = time.perf_counter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # other tools warn of their own affairs
            path = chosen.make(model, example, folder)
    except Exception as error:
        words = str(error).strip().splitlines()[0].replace(f"{Path(__file__).parents[2]}/", "")
        said: dict[str, Any] = {"failed": f"{type(error).__name__}: {words}"}
    else:
        seconds = time.perf_counter() - began
        size = sum(each.stat().st_size for each in (path, path.with_suffix(".bin")) if each.exists())
        said = {"file": path.name, "seconds": seconds, "size": size, "ports": ports(chosen.player, path)}
    (folder / "made.json").write_text(json.dumps(said))
    os._exit(0)  # some tools crash while Python takes them down, after all is done


if __name__ == "__main__":
    main()
