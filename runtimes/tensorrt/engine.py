"""A built engine on disk: ``model.plan`` and its sidecar, which records its model, its TensorRT version and its GPU.

Device-safe. The sidecar is read and the plan's hash checked before TensorRT opens the plan: an engine is native code,
and TensorRT's error for an engine from another machine is not helpful.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType

from ulsam_deploy.device.bundle.kinds import ENGINE
from ulsam_deploy.device.bundle.output import Output
from ulsam_deploy.device.data_files import contents
from ulsam_deploy.device.errors import RefusedError, UnavailableError, UsageError

from . import builder
from .cuda import GpuMachine

SCHEMA = "ulsam-deploy/trt-engine/1"
#: Bytes of a model or an engine, and of the texts beside it; far more than any real one has.
_LARGEST, _LARGEST_TEXT = 4 << 30, 4 << 20
#: The JetPack that contains each TensorRT version, because users know a board by its JetPack.
JETPACKS = {"8.5": "JetPack 5.1", "10.3": "JetPack 6.1-6.2", "10.13": "JetPack 7.0-7.1", "10.16": "JetPack 7.2"}


@dataclass(frozen=True)
class Sidecar:
    """The model and machine of an engine. ``tensorrt`` is the module and its version; CUDA versions as ``12.6``."""

    plan_sha256: str
    onnx_sha256: str
    precision: str
    tensorrt: str
    machine: GpuMachine

    def to_json(self) -> str:
        """The sidecar's text."""
        return json.dumps({"schema": SCHEMA, **asdict(self)}, indent=2, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Sidecar:
        """Read a sidecar; raises :class:`UsageError` on another schema, or on unknown or missing keys."""
        try:
            found = json.loads(text)
            schema = found.pop("schema")
            sidecar = cls(machine=GpuMachine(**found.pop("machine")), **found)
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            raise UsageError(f"the engine's sidecar cannot be read: {error}", todo="build the engine again") from error
        if schema != SCHEMA:
            raise UsageError(f"the engine's sidecar has schema '{schema}'", expected=SCHEMA)
        return sidecar

    def check(self, plan: bytes, tensorrt: str, here: GpuMachine) -> None:
        """Raise :class:`RefusedError` unless ``plan`` is the recorded one, :class:`UnavailableError` unless it fits.

        An engine fits one compute capability and one TensorRT version; the driver and CUDA may differ.
        """
        found = hashlib.sha256(plan).hexdigest()
        if found != self.plan_sha256:
            raise RefusedError(
                f"the engine has SHA-256 {found}", expected=self.plan_sha256, todo="build it again from its kit"
            )
        if (self.tensorrt, self.machine.capability) != (tensorrt, here.capability):
            there, this = described(self.tensorrt, self.machine), described(tensorrt, here)
            raise UnavailableError(
                f"the engine was built for {there}; this is {this}",
                expected="an engine built on this machine",
                todo="rebuild it here from its kit (model.onnx and build.json)",
            )


def described(tensorrt: str, machine: GpuMachine) -> str:
    """Describe a machine: GPU, compute capability, TensorRT, and on a Jetson the JetPack that contains it."""
    version = tensorrt.rpartition(" ")[2]
    jetpack = JETPACKS.get(".".join(version.split(".")[:2]), "") if machine.architecture == "aarch64" else ""
    return f"{machine.gpu} (compute capability {machine.capability}) with {tensorrt}" + (jetpack and f", {jetpack}")


def name_of(trt: ModuleType) -> str:
    """The module and its version, as a sidecar records them."""
    return f"{trt.__name__} {trt.__version__}"


def sidecar_path(plan: Path) -> Path:
    """The path of the sidecar of the engine ``plan``."""
    return plan.with_name(plan.name + ".json")


def checked_plan(plan: Path, trt: ModuleType, here: GpuMachine) -> tuple[bytes, str]:
    """The bytes of ``plan`` and its precision, checked against its sidecar; raises as :meth:`Sidecar.check`.

    Without a sidecar, the caller has decided to trust the plan, and the precision is ``unknown``.
    """
    content, side = contents(plan, _LARGEST), sidecar_path(plan)
    if not side.is_file():
        return content, "unknown"
    sidecar = Sidecar.from_json(contents(side, _LARGEST_TEXT).decode())
    sidecar.check(content, name_of(trt), here)
    return content, sidecar.precision


def build_kit(kit: Path, output: Path, trt: ModuleType, here: GpuMachine, *, force: bool = False) -> Path:
    """Build the engine of the ``kit`` folder into the folder ``output``, with its sidecar; returns the plan's path.

    An existing plan with a sidecar is from an earlier run and is replaced; any other one only with ``force``.

    The timing cache is written to ``output`` as well; its name identifies the machine, so that timings stay comparable.
    The sidecar is written last and holds the plan's hash, so an interrupted run leaves no plan with a matching sidecar.
    """
    try:
        recipe = builder.EngineRecipe.from_json(contents(kit / "build.json", _LARGEST_TEXT).decode())
        onnx = contents(kit / recipe.onnx, _LARGEST)
    except OSError as error:
        raise UsageError(
            f"'{kit}' is not a TensorRT kit: {error.strerror}", expected="model.onnx, build.json"
        ) from error
    plan = output / recipe.engine
    ours = Output(plan, ENGINE, force or sidecar_path(plan).is_file())
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"'{output}' can't be made: {error.strerror}", expected="a folder for the engine") from error
    ours.check()
    cache = output / timing_cache_name(recipe.timing_cache, name_of(trt), here)
    built = builder.build(trt, onnx, recipe, cache=cache)
    ours.write(built.plan)
    made = Sidecar(hashlib.sha256(built.plan).hexdigest(), recipe.onnx_sha256, recipe.precision, name_of(trt), here)
    Output(sidecar_path(plan), ENGINE, force=True).write(made.to_json().encode())
    return plan


def timing_cache_name(name: str, tensorrt: str, here: GpuMachine) -> str:
    """``model.timing`` with a short digest of TensorRT, GPU and driver: timings of other machines would mislead.

    Networks can share the cache, because TensorRT keys its entries by layer.
    """
    known: Mapping[str, str] = {**dataclasses.asdict(here), "tensorrt": tensorrt}
    digest = hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:12]
    stem, dot, suffix = name.rpartition(".")
    return f"{stem or name}-{digest}{dot}{suffix if stem else ''}"
