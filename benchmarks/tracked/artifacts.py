"""The reference network's artifacts, and the tool's own stages: seconds, and ARM instructions, which have no noise.

Names and shapes of these classes are airspeed velocity's: ``time_`` is timed, ``track_`` gives a number with a unit,
``peakmem_`` is the process's peak; ``setup_cache`` runs once for all.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

REFERENCE = Path(__file__).parents[2] / "models" / "cluttered_digits.pt"
TARGETS = ("onnx", "openvino", "tflite")


def exported(folder: Path) -> Path:
    """A bundle of the reference network for every engine."""
    from ulsam_deploy.cli import main

    os.environ["ULSAM_DEPLOY_CACHE"] = str(folder / "cache")
    if main(["export", str(REFERENCE), "--target", ",".join(TARGETS), "-o", str(folder / "reference.bundle")]):
        raise RuntimeError("the reference network could not be exported")
    return folder / "reference.bundle"


class Artifacts:
    """One inference on one thread, by target."""

    params = TARGETS
    param_names = ("target",)
    timeout = 600

    def setup_cache(self) -> str:
        """Made once; the working directory is the suite's own."""
        return str(exported(Path.cwd()))

    def setup(self, bundle: str, target: str) -> None:
        """Open it."""
        from ulsam_deploy.device.bundle import read_bundle
        from ulsam_deploy.device.engines import runtime_for

        found = read_bundle(Path(bundle))
        record = found.artifact(target)
        self.session = runtime_for(target)(found.files(record), record.inputs, record.outputs, threads=1).__enter__()
        self.call = self.session.prepared({record.inputs[0].name: np.zeros(record.inputs[0].shape, np.float32)})
        self.size = sum(file.size for file in record.files)

    def teardown(self, bundle: str, target: str) -> None:  # noqa: ARG002
        """Close it."""
        self.session.__exit__(None, None, None)

    def time_inference(self, bundle: str, target: str) -> None:  # noqa: ARG002
        """Host arrays to host arrays."""
        self.call()

    def peakmem_inference(self, bundle: str, target: str) -> None:  # noqa: ARG002
        """Engine, Python and all."""
        self.call()

    def track_size(self, bundle: str, target: str) -> int:  # noqa: ARG002
        """Of its files."""
        return self.size

    track_size.unit = "bytes"  # type: ignore[attr-defined]


class Instructions:
    """Instructions of one inference on a Raspberry Pi 4's processor model: the same on every machine."""

    params = ("onnx", "tflite")
    param_names = ("target",)
    timeout = 1800

    def setup_cache(self) -> dict[str, int]:
        """Counted once for both."""
        from ulsam_deploy.boards.emulate import count_bundle
        from ulsam_deploy.device.bundle import read_bundle
        from ulsam_deploy.device.progress import Progress

        counted = count_bundle(read_bundle(exported(Path.cwd())), "rpi4", progress=Progress())
        return {one.record.target: one.counts.inference.instructions for one in counted if one.counts}

    def track_inference(self, counted: dict[str, int], target: str) -> int:
        """Noise-free."""
        return counted[target]

    track_inference.unit = "instructions"  # type: ignore[attr-defined]


class Pipeline:
    """The tool's own stages on the reference network, apart from what other people's converters take."""

    timeout = 600

    def setup(self) -> None:
        """Everything that a stage starts from."""
        import torch

        from ulsam_deploy.device.parity import Golden, make_probes
        from ulsam_deploy.graph import capture, fuse_attention, make_golden
        from ulsam_deploy.load import checkpoint

        torch.set_num_threads(1)
        weights = checkpoint.read(REFERENCE)
        model = checkpoint.build(weights, *checkpoint.identify(weights))
        self.captured = capture(model, [(1, 96, 96)], 1)
        self.fused = fuse_attention(self.captured)
        probes, names = make_probes({self.captured.inputs[0].name: (1, 96, 96)}, count=8)
        self.golden: Golden = make_golden(self.captured, self.fused, probes, names)

    def time_fuse(self) -> None:
        """Four blocks out of sixteen subspaces."""
        from ulsam_deploy.graph import fuse_attention

        fuse_attention(self.captured)

    def time_lower(self) -> None:
        """The default form."""
        from ulsam_deploy.exporters.lowerings import broadcast
        from ulsam_deploy.graph import lower

        lower(self.fused, broadcast)

    def time_check(self) -> None:
        """The verdict alone, on the reference's own outputs."""
        from ulsam_deploy.device.parity import check

        check(self.golden, self.golden.outputs)
