"""Artifacts that are right, by many roads: exporters, converters, optimizations, threads, batch sizes, precisions."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnxsim
import torch

from ulsam_deploy.device import plugins
from ulsam_deploy.device.third_party import quiet
from ulsam_deploy.device.types import Artifact
from ulsam_deploy.exporters import lowerings
from ulsam_deploy.exporters.onnx import model as onnx_model
from ulsam_deploy.graph import Lowering, capture, fuse_attention, lower
from ulsam_deploy.graph.interfaces import Exporter, ExportRequest

from .engines import Outputs, Ports, naive_onnx, openvino_from_onnx, run, torch_run
from .subjects import Subject

LEVELS = ("disable_all", "basic", "extended", "all")


@dataclass(frozen=True)
class Sound:
    """One artifact in one setting: ``outputs`` makes and runs it. ``half``: judged as float16."""

    name: str
    target: str
    outputs: Callable[[], Outputs]
    half: bool = False


def sound(subject: Subject, folder: Path) -> Iterator[Sound]:
    """Artifacts by other people's tools, and the network itself by other kernels."""
    yield from _onnxruntime(subject, folder)
    yield from _openvino(subject, folder)
    yield from _torch(subject)


def _onnxruntime(subject: Subject, folder: Path) -> Iterator[Sound]:
    golden, dynamic = subject.golden, Ports.of(subject)
    plain = naive_onnx(subject, subject.model, folder / "dynamic.onnx")
    for level in LEVELS:
        for threads in (1, 2):
            name = f"torch's older exporter, level {level}, {threads} threads"
            yield Sound(name, "onnx", lambda n=threads, v=level: run(plain, dynamic, golden, threads=n, level=v))
    variants: dict[str, dict[str, object]] = {
        "opset 12": {"opset_version": 12},
        "opset 18": {"opset_version": 18},
        "batch norms unfolded": {"training": torch.onnx.TrainingMode.PRESERVE, "do_constant_folding": False},
    }
    for number, (name, options) in enumerate(variants.items()):
        path = naive_onnx(subject, subject.model, folder / f"variant-{number}.onnx", **options)
        for level in ("disable_all", "all"):
            yield Sound(f"{name}, level {level}", "onnx", lambda p=path, v=level: run(p, dynamic, golden, level=v))
    for batch in (1, 4):
        path = naive_onnx(subject, subject.model, folder / f"batch-{batch}.onnx", batch=batch)
        yield Sound(f"batch {batch}", "onnx", lambda p=path, b=batch: run(p, Ports.of(subject, b), golden))
    with quiet():
        simple, _ = onnxsim.simplify(onnx.load(folder / "batch-1.onnx"))
    onnx.save(simple, folder / "simple.onnx")
    yield Sound("onnxsim", "onnx", lambda: run(folder / "simple.onnx", Ports.of(subject, 1), golden))


def _openvino(subject: Subject, folder: Path) -> Iterator[Sound]:
    """OpenVINO's reading of the ONNX files that :func:`_onnxruntime` left."""
    golden = subject.golden
    for stem, batch in (("dynamic", None), ("variant-2", None), ("batch-1", 1), ("batch-4", 4), ("simple", 1)):
        path = openvino_from_onnx(folder / f"{stem}.onnx", folder / f"{stem}.xml")
        ports = Ports.of(subject, batch)
        for threads in (1, 2) if stem == "dynamic" else (1,):
            name = f"OpenVINO reading {stem}.onnx, {threads} threads"
            yield Sound(name, "openvino", lambda p=path, q=ports, n=threads: run(p, q, golden, threads=n))
    for stem, batch in (("dynamic", None), ("batch-1", 1)):
        path = openvino_from_onnx(folder / f"{stem}.onnx", folder / f"{stem}-half.xml", half=True)
        ports = Ports.of(subject, batch)
        yield Sound(
            f"{stem}.onnx, weights in float16", "openvino", lambda p=path, q=ports: run(p, q, golden), half=True
        )


def _torch(subject: Subject) -> Iterator[Sound]:
    golden, names = subject.golden, list(subject.golden.outputs)
    model, example = subject.model, torch.zeros(2, *subject.shape)
    yield Sound("eager, one batch of all", "pytorch", lambda: torch_run(model, golden, names, 99))
    yield Sound(
        "eager, channels last", "pytorch",
        lambda: torch_run(_channels_last(model), golden, names, 3),
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated, and still what many people ship
        frozen = torch.jit.optimize_for_inference(torch.jit.trace(model, example, check_trace=False))
    yield Sound("TorchScript, frozen", "pytorch", lambda: torch_run(frozen, golden, names, 2))


def _channels_last(model: torch.nn.Module) -> Callable[[torch.Tensor], object]:
    return lambda x: model(x.contiguous(memory_format=torch.channels_last))


def own(subject: Subject, folder: Path, target: str, batch: int | None = 1) -> Sound:
    """This project's own artifact."""
    exporter: Exporter = plugins.load(plugins.EXPORTERS, target)
    return Sound(
        f"own exporter, batch {batch or 'dynamic'}", target,
        lambda: own_outputs(subject, folder, target, exporter.lowering(ExportRequest()), batch),
    )  # fmt: skip


def own_outputs(subject: Subject, folder: Path, target: str, lowering: Lowering, batch: int | None = 1) -> Outputs:
    """Export with ``lowering``, which may be another than the target's, or a faulty one, and run."""
    exporter: Exporter = plugins.load(plugins.EXPORTERS, target)
    fused = subject.fused if batch is None else fuse_attention(capture(subject.model, [subject.shape], batch))
    place = folder / f"{target}-{lowering.__name__}-{batch}"
    place.mkdir()
    artifact: Artifact = exporter.export(lower(fused, lowering), ExportRequest(), place)
    return run(place / artifact.files[0], Ports(artifact.inputs, artifact.outputs), subject.golden)


def other_lowering(subject: Subject, folder: Path) -> Sound:
    """ONNX with the lowering that was made for TFLite."""
    path = folder / "other.onnx"

    def outputs() -> Outputs:
        onnx_model.write(onnx_model.to_model(lower(subject.fused, lowerings.channels_last), 18), path)
        return run(path, Ports.of(subject), subject.golden)

    return Sound("the lowering of another target", "onnx", outputs)
