"""The recipe of a TensorRT kit, and the builder that follows it on TensorRT 8.6, 10.x, 11.x and TensorRT for RTX.

Device-safe: standard library, and the ``tensorrt`` module that the caller passes in. It queries the module's features
instead of comparing versions: networks are strongly typed where possible, with the precision stated in the ONNX file.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from ulsam_deploy.device.errors import ExportError, RefusedError, UsageError

SCHEMA = "ulsam-deploy/trt-build/1"


@dataclass(frozen=True)
class ShapeProfile:
    """The range of shapes that an engine accepts for one dynamic input, and the shape that it is tuned for."""

    min: tuple[int, ...]
    opt: tuple[int, ...]
    max: tuple[int, ...]


@dataclass(frozen=True)
class EngineRecipe:
    """How to build the engine of a kit: ``build.json``.

    Attributes:
        profiles: Shape ranges by input; empty for a static network.
        tf32: Off in a kit that must agree with fp32 arithmetic.
        dla: Run on core 0 of the DLA what can run there, and the rest on the GPU.
        trtexec: Equivalent command lines, by generation of TensorRT.
    """

    onnx_sha256: str
    precision: str
    profiles: Mapping[str, ShapeProfile] = field(default_factory=dict)
    workspace_mib: int = 1024
    tf32: bool = False
    dla: bool = False
    onnx: str = "model.onnx"
    engine: str = "model.plan"
    timing_cache: str = "model.timing"
    trtexec: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """The text of ``build.json``: the same bytes for the same recipe."""
        return json.dumps({"schema": SCHEMA, **asdict(self)}, indent=2, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str) -> EngineRecipe:
        """Read ``build.json``; raises :class:`UsageError` on another schema, or on unknown or missing keys."""
        try:
            found = json.loads(text)
            schema = found.pop("schema")
            profiles = {
                name: ShapeProfile(**{key: tuple(shape) for key, shape in profile.items()})
                for name, profile in found.pop("profiles").items()
            }
            recipe = cls(profiles=profiles, **found)
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            raise UsageError(f"build.json cannot be read: {error}", todo="export the kit again") from error
        if schema != SCHEMA:
            raise UsageError(f"build.json has schema '{schema}'", expected=SCHEMA)
        return recipe

    def check(self, onnx: bytes) -> None:
        """Raise :class:`RefusedError` unless ``onnx`` is the model that the recipe was written for."""
        found = hashlib.sha256(onnx).hexdigest()
        if found != self.onnx_sha256:
            raise RefusedError(
                f"{self.onnx} has SHA-256 {found}", expected=self.onnx_sha256, todo="export the kit again"
            )


@dataclass(frozen=True)
class Parsed:
    """The result of the vendor's parser: the layers of the network by type."""

    layers: Mapping[str, int]


@dataclass(frozen=True)
class Built:
    """A serialized engine, and the ``listing`` of its layers, one for each line, if the builder's log has it (RTX)."""

    plan: bytes
    parsed: Parsed
    listing: str


def parse(trt: ModuleType, onnx: bytes) -> Parsed:
    """Read ``onnx`` with the parser of ``trt``; needs no GPU with TensorRT for RTX.

    Raises :class:`ExportError` with the parser's own message.
    """
    return BuildSession(trt).parse(onnx)


def build(
    trt: ModuleType, onnx: bytes, recipe: EngineRecipe, *, capability: str = "", cache: Path | None = None
) -> Built:
    """Build a serialized engine.

    Args:
        trt: The TensorRT module.
        onnx: The model.
        recipe: How to build it.
        capability: With RTX, the compute capability to build for, such as ``SM86``; empty: this machine's GPU.
        cache: The file of a timing cache, which is read if it exists and written back.

    Raises:
        ExportError: The parser or the builder failed; contains its message.
        RefusedError: ``onnx`` is not the model that the recipe was written for.
    """
    recipe.check(onnx)
    session = BuildSession(trt)
    parsed = session.parse(onnx)
    config = session.config(recipe)
    if capability:
        config.num_compute_capabilities = 1
        if not config.set_compute_capability(getattr(trt.ComputeCapability, capability), 0):
            raise ExportError(f"{trt.__name__} does not build for {capability}")
    timing = _read_cache(config, cache)
    plan = session.builder.build_serialized_network(session.network, config)
    if plan is None:
        raise ExportError(f"{trt.__name__} {trt.__version__} could not build the engine: {session.errors()}")
    if cache is not None and timing is not None:
        cache.write_bytes(bytes(timing.serialize()))
    return Built(bytes(plan), parsed, session.listing())


class BuildSession:
    """A builder and a network, and the log that both write to, which must outlive them."""

    def __init__(self, trt: ModuleType) -> None:
        self.trt = trt
        self.said: list[tuple[int, str]] = []
        self.log = logger(trt, self.said)
        self.builder = trt.Builder(self.log)
        self.network = self.builder.create_network(network_flags(trt))

    def parse(self, onnx: bytes) -> Parsed:
        """Read ``onnx`` into ``network``; raises :class:`ExportError` with the parser's own message."""
        self.parser = parser = self.trt.OnnxParser(self.network, self.log)  # it owns the network's weights
        if not parser.parse(onnx):
            words = "; ".join(_error(parser.get_error(index)) for index in range(parser.num_errors))
            raise ExportError(
                f"the ONNX parser of {self.trt.__name__} {self.trt.__version__} refused the model: {words}"
            )
        layers = (self.network.get_layer(index).type for index in range(self.network.num_layers))
        return Parsed(dict(sorted(Counter(layer.name for layer in layers).items())))

    def config(self, recipe: EngineRecipe) -> Any:
        """The builder's configuration for ``recipe``; raises :class:`ExportError` on an impossible profile."""
        trt = self.trt
        config = self.builder.create_builder_config()
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, recipe.workspace_mib << 20)
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
        _set_precision(trt, config, recipe)
        if recipe.profiles:
            profile = self.builder.create_optimization_profile()
            for name, shapes in recipe.profiles.items():
                profile.set_shape(name, shapes.min, shapes.opt, shapes.max)
            if config.add_optimization_profile(profile) < 0:
                raise ExportError(f"{trt.__name__} refused the optimization profile: {self.errors()}")
        return config

    def errors(self) -> str:
        """The errors in the log, as one line."""
        worst = int(self.trt.ILogger.ERROR)
        return "; ".join(text for severity, text in self.said if severity <= worst) or "no reason given"

    def listing(self) -> str:
        """The log's detailed lines about the engine's layers; empty if there are none."""
        return "\n".join(text for _, text in self.said if text.startswith("Layers:"))


def logger(trt: ModuleType, said: list[tuple[int, str]]) -> Any:
    """A logger that appends ``(severity, text)`` to ``said``; 0 and 1 are errors."""

    class Log(trt.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, text: str) -> None:
            said.append((int(severity), text))

    return Log()


def strongly_typed(trt: ModuleType) -> bool:
    """Whether networks take their types from the file: always in 11 and RTX, which no longer have precision flags.

    In 10.x it is optional, and complete from 10.12 on according to the vendor; the API does not show which is the case.
    """
    if not hasattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED"):
        return False
    if not hasattr(trt.BuilderFlag, "FP16"):
        return True
    major, minor = (int(part) for part in trt.__version__.split(".")[:2])
    return (major, minor) >= (10, 12)


def network_flags(trt: ModuleType) -> int:
    """The flags of a new network: strongly typed if that is complete; 8.x needs EXPLICIT_BATCH, 10.x nothing."""
    flags = trt.NetworkDefinitionCreationFlag
    if strongly_typed(trt):
        return 1 << int(flags.STRONGLY_TYPED)
    return 0 if hasattr(flags, "STRONGLY_TYPED") else 1 << int(flags.EXPLICIT_BATCH)


def _set_precision(trt: ModuleType, config: Any, recipe: EngineRecipe) -> None:
    """Set the precision flags that a weakly typed network needs, and the DLA's."""
    if not recipe.tf32:
        config.clear_flag(trt.BuilderFlag.TF32)
    if recipe.precision == "fp16" and not strongly_typed(trt):
        config.set_flag(trt.BuilderFlag.FP16)
    if recipe.dla:
        config.default_device_type = trt.DeviceType.DLA
        config.DLA_core = 0
        config.set_flag(trt.BuilderFlag.GPU_FALLBACK)


def _error(error: Any) -> str:
    where = error.node_name() if hasattr(error, "node_name") else ""
    return f"{error.desc()} (node {where or error.node()})"


def _read_cache(config: Any, cache: Path | None) -> Any:
    """Give ``config`` the timing cache at ``cache``; an empty one if the file is missing or does not fit."""
    if cache is None:
        return None
    held = cache.read_bytes() if cache.is_file() else b""
    timing = config.create_timing_cache(held)
    if not config.set_timing_cache(timing, ignore_mismatch=False):
        timing = config.create_timing_cache(b"")
        config.set_timing_cache(timing, ignore_mismatch=False)
    return timing
