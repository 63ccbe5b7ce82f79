"""The table of docs/precision.md on int8 and networks trained on real pictures: ours, and the toolkits' plain calls.

    ULSAM_DEPLOY_REAL=DIR python benchmarks/int8_quality.py [--network NAME] [--targets T,...] [--rounds 7] [--write]

See real_networks.py for the packages. Ranges come from 60 crops of real pictures; 300 other crops of the same pictures
are judged, so compare rows and not with other sets. *Sure*: the pictures where PyTorch's best class is ahead by 0.2.
*Error*: the root mean square difference of the logits over the logits' own deviation. Times are from one interleaved
run.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import real_networks
import torch

from ulsam_deploy.device import plugins
from ulsam_deploy.device.accuracy.statistics import wilson
from ulsam_deploy.device.bench.intervals import log_times, paired
from ulsam_deploy.device.bench.measure import measure
from ulsam_deploy.device.engines import runtime_for
from ulsam_deploy.device.runtime import Runtime
from ulsam_deploy.device.third_party import load_openvino, quiet
from ulsam_deploy.device.types import Artifact, Calibration
from ulsam_deploy.graph import Program, capture, fuse_attention, lower
from ulsam_deploy.graph.interfaces import ExportRequest
from ulsam_deploy.graph.rounding import rounded_weights
from ulsam_deploy.inputs.calibration import digest

Array = np.ndarray[Any, Any]

CALIBRATED_ON, JUDGED_ON = 60, 300
#: How far PyTorch's best class must be ahead of the second for a picture to count as sure.
AHEAD = 0.2
DOCUMENT = Path(__file__).parents[1] / "docs" / "precision.md"
COLUMNS = ("target", "int8 by", "all", "sure", "error", "size", "time / fp32")


@dataclass(frozen=True)
class Subject:
    """One network, fused, and the pictures."""

    program: Program
    calibration: Calibration
    pictures: Array
    logits: Array
    _rounded: dict[int, Program] = field(default_factory=dict)

    def rounded(self, levels: int) -> Program:
        """The network with its weights on int8 grids, as every target gets it."""
        if levels not in self._rounded:
            weights = rounded_weights(self.program, self.calibration, levels)
            self._rounded[levels] = weights.within(self.program)
        return self._rounded[levels]

    @property
    def sure(self) -> Array:
        """Where PyTorch is sure."""
        chances = torch.from_numpy(self.logits).softmax(1).topk(2).values
        return (chances[:, 0] - chances[:, 1] >= AHEAD).numpy()


@dataclass(frozen=True)
class Quality:
    """How near an artifact's logits are to PyTorch's."""

    agreed: Array
    sure: Array
    error: float

    @property
    def of_all(self) -> float:
        """The share of all pictures with the same best class."""
        return float(self.agreed.mean())

    @property
    def of_sure(self) -> float:
        """The same of the pictures where PyTorch is sure."""
        return float(self.agreed[self.sure].mean())


def subject(name: str, real: Path) -> Subject:
    """The network called ``name``, its calibration set, other pictures, and what PyTorch says of them."""
    make, normal = real_networks.NETWORKS[name]
    network = make(real)
    arrays = {"input": real_networks.inputs(real, CALIBRATED_ON, 1, *normal)}
    pictures = real_networks.inputs(real, JUDGED_ON, 2, *normal)
    with torch.no_grad():
        logits = torch.cat([network(torch.from_numpy(pictures[i : i + 20])) for i in range(0, JUDGED_ON, 20)]).numpy()
    program = fuse_attention(capture(network, [(3, 224, 224)], 1))
    arrays = {program.inputs[0].name: arrays["input"]}
    return Subject(program, Calibration(arrays, digest(arrays)), pictures, logits)


def exported(target: str, precision: str, subject: Subject, folder: Path) -> Artifact:
    """As ``ulsam-deploy export`` makes it."""
    exporter = plugins.load(plugins.EXPORTERS, target)
    ranges = subject.calibration if precision == "int8" else None
    request = ExportRequest(precision, calibration=ranges)
    program = subject.rounded(exporter.weight_levels()) if precision == "int8" else subject.program
    program = lower(program, exporter.lowering(request))
    folder.mkdir()
    artifact: Artifact = exporter.export(program, request, folder)
    return artifact


def quality(session: Runtime, subject: Subject) -> Quality:
    """Run every picture."""
    port = session.inputs[0].name
    found = np.concatenate([next(iter(session.run({port: picture[None]}).values())) for picture in subject.pictures])
    deviation = subject.logits - subject.logits.mean()
    error = float(np.sqrt(np.mean((found - subject.logits) ** 2) / np.mean(deviation**2)))
    return Quality(found.argmax(1) == subject.logits.argmax(1), subject.sure, error)


def _feeds(subject: Subject) -> list[dict[str, Array]]:
    return list(subject.calibration.batches(1))


def _ort(subject: Subject, source: Path, into: Path, **options: Any) -> None:
    from onnxruntime.quantization import CalibrationDataReader, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._feeds = iter(_feeds(subject))

        def get_next(self) -> Any:
            return next(self._feeds, None)

    quantize_static(source / "model.onnx", into / "model.onnx", Reader(), **options)


def ort_defaults(subject: Subject, source: Path, into: Path) -> None:
    _ort(subject, source, into)


def ort_per_channel(subject: Subject, source: Path, into: Path) -> None:
    from onnxruntime.quantization import QuantType

    _ort(subject, source, into, per_channel=True, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8)


def nncf_defaults(subject: Subject, source: Path, into: Path) -> None:
    openvino = load_openvino()
    import nncf

    model = openvino.Core().read_model(source / "model.xml")
    quantized = nncf.quantize(model, nncf.Dataset(_feeds(subject)))
    openvino.save_model(quantized, into / "model.xml", compress_to_fp16=False)


def litert_defaults(subject: Subject, source: Path, into: Path) -> None:
    from ai_edge_quantizer import quantizer, recipe
    from ai_edge_quantizer.algorithm_manager import AlgorithmName
    from ai_edge_quantizer.qtyping import TFLOperationName

    made = quantizer.Quantizer(str(source / "model.tflite"), recipe.static_wi8_ai8())
    for port in (TFLOperationName.INPUT, TFLOperationName.OUTPUT):  # float32, as in every other row
        made.update_quantization_recipe(".*", port, algorithm_key=AlgorithmName.NO_QUANTIZE)
    feeds = [{name: array.transpose(0, 2, 3, 1) for name, array in feed.items()} for feed in _feeds(subject)]
    ranges = made.calibrate({"serving_default": feeds})
    made.quantize(ranges).export_model(str(into / "model.tflite"))


#: Plain calls, as people make them: by target and name.
PLAIN: Mapping[tuple[str, str], Callable[[Subject, Path, Path], None]] = {
    ("onnx", "ONNX Runtime, defaults"): ort_defaults,
    ("onnx", "ONNX Runtime, per channel, U8S8"): ort_per_channel,
    ("openvino", "NNCF, defaults"): nncf_defaults,
    ("tflite", "ai-edge-quantizer, defaults"): litert_defaults,
}
TARGETS = ("onnx", "openvino", "tflite")


def rows(subject: Subject, targets: tuple[str, ...], place: Path, rounds: int, *, plain: bool) -> Iterator[list[str]]:
    """A line for each int8 artifact of each target."""
    for target in targets:
        with contextlib.ExitStack() as stack:
            whole = exported(target, "fp32", subject, place / f"{target}-fp32")
            sessions = {"fp32": stack.enter_context(opened(target, whole, place / f"{target}-fp32"))}
            ours = exported(target, "int8", subject, place / f"{target}-ours")
            sessions["this project"] = stack.enter_context(opened(target, ours, place / f"{target}-ours"))
            for number, ((of, name), make) in enumerate(PLAIN.items()):
                if of == target and plain:
                    folder = place / f"{target}-{number}"
                    folder.mkdir()
                    with quiet():
                        make(subject, place / f"{target}-fp32", folder)
                    sessions[name] = stack.enter_context(opened(target, whole, folder))
            times = ratios(sessions, subject, rounds) if rounds else {}
            for name, session in sessions.items():
                found = quality(session, subject)
                bytes_ = sum(path.stat().st_size for path in session.files)
                yield [
                    target, name, _share(found.agreed), _share(found.agreed[found.sure]), f"{found.error:.3f}",
                    f"{bytes_ / 1e6:.1f} MB", times.get(name, "-"),
                ]  # fmt: skip


def opened(target: str, artifact: Artifact, folder: Path) -> Runtime:
    """The files in ``folder`` in their engine, with one thread; ``artifact`` says how they are called and used."""
    files = [folder / name for name in artifact.files]
    session: Runtime = runtime_for(target)(files, artifact.inputs, artifact.outputs, threads=1)
    return session


def _share(agreed: Array) -> str:
    low, high = wilson(int(agreed.sum()), len(agreed))
    return f"{agreed.mean():.3f} ({low:.2f} - {high:.2f})"


def ratios(sessions: Mapping[str, Runtime], subject: Subject, rounds: int) -> dict[str, str]:
    """Median time over that of fp32, from rounds in which each has a turn in random order."""
    runs = {name: s.prepared({s.inputs[0].name: subject.pictures[:1]}) for name, s in sessions.items()}
    times: dict[str, list[Any]] = {name: [] for name in runs}
    turns = list(runs)
    for _ in range(rounds):
        random.shuffle(turns)
        for name in turns:
            times[name].append(np.asarray(measure(runs[name], warmup=3, min_seconds=0.3, min_count=5).times, float))
    found = {}
    for name in turns:
        ratio = paired(log_times(times[name]) - log_times(times["fp32"]))
        known = ratio.low is not None and ratio.high is not None
        found[name] = f"{ratio.estimate:.2f}" + (f" ({ratio.low:.2f} - {ratio.high:.2f})" if known else "")
    return found


@cache
def real() -> Path:
    found = real_networks.folder()
    if found is None:
        raise SystemExit(f"{real_networks.VARIABLE} names no folder with {', '.join(real_networks.PACKAGES)}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=tuple(real_networks.NETWORKS), default="mobilenet_v2")
    parser.add_argument("--targets", default=",".join(TARGETS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--ours", action="store_true", help="leave the plain calls out")
    parser.add_argument("--write", action="store_true", help="put the table into docs/precision.md")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    on = subject(asked.network, real())
    lines = [f"{asked.network}: PyTorch is sure of {int(on.sure.sum())} of {len(on.pictures)} pictures.", ""]
    lines += [f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}"]
    print(*lines, sep="\n")
    with tempfile.TemporaryDirectory() as place:
        for row in rows(on, tuple(asked.targets.split(",")), Path(place), asked.rounds, plain=not asked.ours):
            lines.append(f"| {' | '.join(row)} |")
            print(lines[-1], flush=True)
    if asked.write:
        write(asked.network, lines)


def write(network: str, lines: list[str]) -> None:
    """Put the table between the two marks of ``network`` in the documentation."""
    start, end = f"<!-- int8 of {network} -->", f"<!-- end of {network} -->"
    before, _, rest = DOCUMENT.read_text().partition(start)
    _, found, after = rest.partition(end)
    if not found:
        raise SystemExit(f"{DOCUMENT.name} has no marks for {network}")
    DOCUMENT.write_text("\n".join([f"{before}{start}", "", *lines, "", f"{end}{after}"]))


if __name__ == "__main__":
    main()
