"""Engine ``ncnn``: on the processor, one image at a time. Device-safe: standard library, numpy and ncnn.

What ncnn computes depends on options of the program that loads a model, not on the model: by default it takes float16
wherever the processor can. So an artifact has a third file with the options that it was verified with.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from ulsam_deploy.device import codec
from ulsam_deploy.device.arrays import Array
from ulsam_deploy.device.errors import UnavailableError
from ulsam_deploy.device.findings import EngineFacts
from ulsam_deploy.device.runtime import Runtime
from ulsam_deploy.device.third_party import installed, quiet, version, words_of
from ulsam_deploy.device.types import Availability, TensorSpec

from . import advice
from .ports import check_ports

#: The ends of the names of an artifact's files: layers, weights, and the options that it is to be run with.
PARAM, WEIGHTS, OPTIONS = ".param", ".bin", ".options.json"


@dataclass(frozen=True)
class NcnnOptions:
    """The fields of ncnn's ``Option`` on which results depend; each default is the one that changes results least.

    Winograd's F(2, 3) rounds as a plain convolution does, F(4, 3) and F(6, 3) two to twenty times more (docs/ncnn.md).
    """

    use_fp16_packed: bool = False
    use_fp16_storage: bool = False
    use_fp16_arithmetic: bool = False
    use_bf16_packed: bool = False
    use_bf16_storage: bool = False
    use_winograd23_convolution: bool = True
    use_winograd43_convolution: bool = False
    use_winograd63_convolution: bool = False

    @property
    def stored(self) -> str:
        """The lowest precision that they allow values between layers to be stored in."""
        if self.use_bf16_storage:
            return "bf16"
        return "fp16" if self.use_fp16_storage or self.use_fp16_arithmetic else "fp32"


#: The options of each precision. float16 is stored and not computed in, which a Cortex-A76 fails at (docs/ncnn.md).
CHOSEN: Mapping[str, NcnnOptions] = {
    "fp32": NcnnOptions(),
    "fp16": NcnnOptions(use_fp16_packed=True, use_fp16_storage=True),
    "bf16": NcnnOptions(use_bf16_packed=True, use_bf16_storage=True),
}


class Ncnn(Runtime):
    """One net, and a new extractor for each image: ncnn has no batch. Without a file of options, ncnn's defaults."""

    name = "ncnn"
    target = "ncnn"
    opens = (PARAM,)
    precisions = tuple(CHOSEN)
    script = """\
import json, pathlib, ncnn, numpy
net, options = ncnn.Net(), pathlib.Path(PATH).with_suffix(".options.json")
for name, value in json.loads(options.read_text()).items() if options.exists() else ():
    setattr(net.opt, name, value)
net.load_param(PATH), net.load_model(str(pathlib.Path(PATH).with_suffix(".bin")))
extractor = net.create_extractor()
for name, array in inputs.items():
    extractor.input(name, ncnn.Mat(array[0]).clone())
outputs = {name: numpy.array(extractor.extract(name)[1])[None] for name in net.output_names()}
"""

    @classmethod
    def files_of(cls, path: Path) -> tuple[Path, ...]:
        """The ``.param``, the ``.bin`` beside it, and the options if there are any."""
        return (path, path.with_suffix(WEIGHTS), *(p for p in [path.with_suffix(OPTIONS)] if p.exists()))

    @classmethod
    def available(cls) -> Availability:
        """Whether ncnn is installed."""
        return installed("ncnn", todo=advice.ncnn())

    @classmethod
    def options_text(cls, precision: str) -> str:
        """The content of the file of options of an artifact of ``precision``."""
        return codec.dumps(codec.encode(CHOSEN[precision], OPTIONS))

    def _load(self) -> None:
        self._ncnn = import_module("ncnn")
        with words_of("ncnn", f"open {self.files[0].name}"), quiet():
            self._net = self._open(light=True)
        for kind, specs, names in (
            ("input", self.inputs, self._net.input_names()),
            ("output", self.outputs, self._net.output_names()),
        ):
            check_ports(kind, specs, dict.fromkeys(names, ()) | {s.name: s.shape for s in specs if s.name in names})

    def _open(self, *, light: bool) -> Any:
        net = self._ncnn.Net()
        net.opt.lightmode = light
        net.opt.use_vulkan_compute = False
        if self.threads is not None:
            net.opt.num_threads = self.threads
        for path in self.files:
            if path.name.endswith(OPTIONS):
                chosen = codec.decode(NcnnOptions, codec.loads(path.read_bytes(), path.name), path.name)
                for name, value in dataclasses.asdict(chosen).items():
                    setattr(net.opt, name, value)
        if net.load_param(os.fspath(self.files[0])) or net.load_model(os.fspath(self.files[1])):
            raise ValueError("it is no network that this version reads")
        return net

    def ports(self) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
        """The inputs as the file declares them, and the outputs as a run shows them.

        Raises:
            UnavailableError: The file does not say how large an input is, as those of pnnx don't.
        """
        with words_of("ncnn", f"read the inputs of {self.files[0].name}"):
            shapes = dict(_declared(self.files[0].read_text(encoding="utf-8")))
        for name in self._net.input_names():
            if not shapes.get(name):
                raise UnavailableError(
                    f"the file does not say what shape its input '{name}' has",
                    expected="0=WIDTH 1=HEIGHT 2=CHANNELS in the line of its layer Input",
                )
        zeros = {name: np.zeros((1, *shapes[name]), np.float32) for name in self._net.input_names()}
        with words_of("ncnn", "run the model"):
            found = self._extracted(self._net, zeros, self._net.output_names())
        return _specs(zeros), _specs(found)

    def _values(self, inputs: dict[str, Array]) -> dict[str, Array]:
        with words_of("ncnn", "run the model with all of its values kept"), quiet():
            net = self._open(light=False)
            return self._extracted(net, inputs, [blob.name for blob in net.blobs()])

    def _run(self, inputs: dict[str, Array]) -> dict[str, Array]:
        with words_of("ncnn", "run the model"):
            found = self._extracted(self._net, inputs, [spec.name for spec in self.outputs])
            check_ports("output", self.outputs, {name: array.shape for name, array in found.items()})
            return found

    def _extracted(self, net: Any, inputs: Mapping[str, Array], names: list[str]) -> dict[str, Array]:
        """The values called ``names`` for each image, joined along the batch."""
        rows = [self._one(net, inputs, names, number) for number in range(len(next(iter(inputs.values()))))]
        return {name: np.stack([row[name] for row in rows]) for name in names}

    def _one(self, net: Any, inputs: Mapping[str, Array], names: list[str], number: int) -> dict[str, Array]:
        extractor = net.create_extractor()
        for name, array in inputs.items():
            if extractor.input(name, self._ncnn.Mat(array[number]).clone()):
                raise ValueError(f"it took no input '{name}'")
        found = {}
        for name in names:
            failed, value = extractor.extract(name)
            if failed:
                raise ValueError(f"it gave no '{name}' (status {failed})")
            found[name] = np.array(value)  # a copy: the value ends with the extractor
        return found

    def _close(self) -> None:
        del self._net

    def facts(self) -> EngineFacts:
        """Engine, version, threads, and the options that are in use."""
        options = NcnnOptions(
            **{field.name: getattr(self._net.opt, field.name) for field in dataclasses.fields(NcnnOptions)}
        )
        return EngineFacts(
            engine="ncnn",
            version=version("ncnn"),
            threads=int(self._net.opt.num_threads),
            precision=options.stored,
            details=dataclasses.asdict(options),
        )


def _declared(text: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The name and shape of every input that the layers of a ``.param`` declare; empty where it declares none."""
    for line in text.splitlines()[2:]:
        kind, _, _, _, *rest = line.split() or [""] * 4
        if kind == "Input":
            sizes = {key: int(size) for key, _, size in (word.partition("=") for word in rest[1:])}
            yield rest[0], tuple(sizes[key] for key in ("2", "11", "1", "0") if key in sizes)


def _specs(arrays: Mapping[str, Array]) -> tuple[TensorSpec, ...]:
    return tuple(TensorSpec(name, array.shape) for name, array in arrays.items())
