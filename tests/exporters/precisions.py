"""A small network whose attention is diffuse on large maps, in every precision that an exporter makes, and real inputs.

``plain_*`` make int8 as other tools do when nobody says anything: everything is quantized.
"""

from __future__ import annotations

import dataclasses
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from ulsam_deploy.device import plugins
from ulsam_deploy.device.engines import produce
from ulsam_deploy.device.findings import Retention
from ulsam_deploy.device.parity import Golden, Inside
from ulsam_deploy.device.parity.retention import by_ablations
from ulsam_deploy.device.runtime import Runtime
from ulsam_deploy.device.types import Artifact, Calibration
from ulsam_deploy.graph import Program, capture, fuse_attention, lower, make_golden, measure_floors
from ulsam_deploy.graph.interfaces import ExportRequest
from ulsam_deploy.graph.views import watched
from ulsam_deploy.inputs.calibration import digest

Array = np.ndarray[Any, Any]

SIZE = 112
BLOCKS = ("2", "5")


def diffuse_network() -> Any:
    """ULSAM on 56x56 and on 28x28, with scores so small that no position stands out."""
    import torch
    from torch import nn

    from ulsam_deploy.models.ulsam import ULSAM

    torch.manual_seed(11)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1),
        nn.ReLU6(),
        ULSAM(8, 2),
        nn.Conv2d(8, 16, 3, 2, 1),
        nn.ReLU6(),
        ULSAM(16, 4),
        nn.Conv2d(16, 16, 3, 2, 1),
        nn.ReLU6(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 10),
    ).eval()
    for block in (network[2], network[5]):
        for subspace in block.subspaces:
            subspace.bn_point.weight.data.fill_(0.05)
    return network


def real(count: int, seed: int = 0) -> Array:
    """Smooth pictures, float32 (N, 3, 112, 112): blobs of colour."""
    random = np.random.default_rng(seed)
    small = random.uniform(-1, 1, (count, 3, 8, 8)).astype(np.float32)
    return np.ascontiguousarray(small.repeat(SIZE // 8, 2).repeat(SIZE // 8, 3))


@cache
def calibration() -> Calibration:
    arrays = {"input": real(24, 1)}
    return Calibration(arrays, digest(arrays))


@cache
def programs() -> tuple[Program, Program]:
    """As captured, and fused."""
    captured = capture(diffuse_network(), [(3, SIZE, SIZE)], 1)
    return captured, fuse_attention(captured)


@cache
def golden() -> Golden:
    """The golden set on pictures alone."""
    pictures = real(12, 2)
    return make_golden(*programs(), {"input": pictures}, tuple(f"yours-{i}" for i in range(len(pictures))))


def export(target: str, precision: str, folder: Path, keep: tuple[str, ...] = ()) -> Artifact:
    """The diffuse network through the pipeline to ``target`` in ``precision``."""
    exporter = plugins.load(plugins.EXPORTERS, target)
    request = ExportRequest(precision, calibration=calibration() if precision == "int8" else None, keep=keep)
    return exporter.export(lowered(target, precision), request, folder)


@cache
def lowered(target: str, precision: str) -> Program:
    exporter = plugins.load(plugins.EXPORTERS, target)
    return lower(programs()[1], exporter.lowering(ExportRequest(precision)))


def opened(target: str, artifact: Artifact, folder: Path) -> Runtime:
    runtime: type[Runtime] = plugins.load(plugins.RUNTIMES, plugins.load(plugins.EXPORTERS, target).runtime)
    return runtime([folder / name for name in artifact.files], artifact.inputs, artifact.outputs, threads=1)


def outputs(target: str, artifact: Artifact, folder: Path) -> Array:
    """The logits on the golden set's inputs, float32 (P, 10)."""
    with opened(target, artifact, folder) as session:
        return next(iter(produce(session, golden().inputs).values()))


@cache
def floors() -> Any:
    """The noise floors of int8."""
    return measure_floors(*programs(), golden(), "int8", calibration()).floors


@cache
def seen() -> list[Any]:
    """What the reference's blocks do on 24 pictures: on six, chance hides what is left of a diffuse map."""
    found, pictures = [], real(24, 2)
    for start in range(0, len(pictures), 6):
        part = dataclasses.replace(golden().take(range(6)), inputs={"input": pictures[start : start + 6]})
        found += watched(programs()[1], part)
    return found


def lives(target: str, artifact: Artifact, folder: Path, place: Path) -> list[tuple[Retention, Any]]:
    """Of every block: its retention by the artifact's own ablation, and the reading inside."""
    found = []
    exporter = plugins.load(plugins.EXPORTERS, target)
    (name,) = golden().shapes
    whole = outputs(target, artifact, folder)
    for block in range(len(BLOCKS)):
        into = place / f"{target}-{artifact.precision}-{block}"
        into.mkdir()
        assert exporter.ablate(folder / artifact.files[0], range(block, block + 1), into)
        edited = np.stack([outputs(target, artifact, into)] * len(BLOCKS))
        inside = Inside()
        with opened(target, artifact, folder) as one, opened(target, artifact, into) as other:
            for feed, added in seen():
                inside.note(added[block], one.values(feed), other.values(feed))
        lived = by_ablations(golden(), {name: whole}, {name: edited}, floors())[block]
        found.append((lived, inside.reading()))
    return found


def plain_tflite(content: bytes, samples: list[dict[str, Array]] | None = None) -> bytes:
    """ai-edge-quantizer's own recipe for static int8 on a float model; ``samples``: instead of the calibration set."""
    from ai_edge_quantizer import recipe
    from ai_edge_quantizer.algorithm_manager import AlgorithmName
    from ai_edge_quantizer.qtyping import TFLOperationName
    from ai_edge_quantizer.quantizer import Quantizer

    from ulsam_deploy.device.third_party import quiet

    quantizer = Quantizer(bytearray(content), recipe.static_wi8_ai8())
    for port in (TFLOperationName.INPUT, TFLOperationName.OUTPUT):  # so that it is fed float32 as all others are
        quantizer.update_quantization_recipe(".*", port, algorithm_key=AlgorithmName.NO_QUANTIZE)
    if samples is None:
        pictures = calibration().arrays["input"]
        samples = [{"input": np.ascontiguousarray(x[None].transpose(0, 2, 3, 1))} for x in pictures]
    with quiet("Warning: Enabling `experimental_preserve_all_tensors`"):
        ranges = quantizer.calibrate({"serving_default": samples}, num_threads=1)
        result = quantizer.quantize(ranges, enable_progress_bar=False, enable_progress_report=False)
    return bytes(result.quantized_model)


def plain_onnx(path: Path, into: Path) -> None:
    """ONNX Runtime's quantize_static with its defaults, on a float model."""
    from onnxruntime.quantization import QuantType, quantize_static

    class Reader:
        def __init__(self) -> None:
            self.left = iter(calibration().arrays["input"])

        def get_next(self) -> Any:
            sample = next(self.left, None)
            return None if sample is None else {"input": sample[None]}

    quantize_static(onnx.load(path), into, Reader(), activation_type=QuantType.QInt8, weight_type=QuantType.QInt8)


def plain_openvino(path: Path, into: Path) -> None:
    """NNCF's defaults, on a float model."""
    from ulsam_deploy.device.third_party import load_openvino, quiet

    openvino = load_openvino()
    with quiet():
        import nncf

        samples = [{"input": x[None]} for x in calibration().arrays["input"]]
        model = nncf.quantize(openvino.Core().read_model(path), nncf.Dataset(samples), subset_size=len(samples))
        openvino.save_model(model, into)
