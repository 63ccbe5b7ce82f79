"""The TensorRT runtime and builder: for real on TensorRT for RTX as far as it goes without a GPU, and on a GPU.

Running an engine needs a GPU. Without one, the order of calls is checked on a stand-in engine that computes ``2 * x``.
"""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from ulsam_deploy.device.bench.measure import measure
from ulsam_deploy.device.errors import ExportError, RefusedError, UnavailableError, UsageError
from ulsam_deploy.device.types import TensorSpec
from ulsam_deploy.runtimes.tensorrt import builder, cuda, engine
from ulsam_deploy.runtimes.tensorrt.builder import EngineRecipe, ShapeProfile, build, parse
from ulsam_deploy.runtimes.tensorrt.runtime import TensorRT, module_name

RECIPE = EngineRecipe(
    "0" * 64, "fp32", {"x": ShapeProfile((1, 3), (1, 3), (8, 3))}, trtexec={"11": "trtexec --onnx=model.onnx"}
)
MACHINE = cuda.GpuMachine("Orin", "8.7", "12.6", "12.6", "aarch64")
SPECS = (TensorSpec("x", (None, 3)),), (TensorSpec("y", (None, 3)),)


@pytest.fixture(scope="module")
def rtx():
    return pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is not installed")


def recipe_for(made):
    return EngineRecipe.from_json(made.files[1].read_text())


def test_recipe_survives_its_file() -> None:
    assert EngineRecipe.from_json(RECIPE.to_json()) == RECIPE


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:-20],
        lambda text: text.replace('"tf32"', '"tf64"'),
        lambda text: text.replace("trt-build/1", "trt-build/9"),
        lambda text: text.replace('"schema"', '"scheme"'),
        lambda text: "[]",
    ],
)
def test_damaged_recipe_is_refused(damage: Any) -> None:
    with pytest.raises(UsageError, match=r"build\.json"):
        EngineRecipe.from_json(damage(RECIPE.to_json()))


def test_another_model_than_the_recipes_is_refused(made: Any, rtx: Any) -> None:
    with pytest.raises(RefusedError, match="SHA-256"):
        build(rtx, b"anything", recipe_for(made("trt", None)))


def test_builds_an_engine_without_a_gpu_and_reads_one_softmax_a_block(made: Any, rtx: Any) -> None:
    kit = made("trt", None)
    built = build(rtx, kit.files[0].read_bytes(), recipe_for(kit), capability="SM86")
    assert len(built.plan) > 10_000
    assert built.parsed.layers["SOFTMAX"] == 2
    assert built.listing.count("LayerType: ") > 5


def test_parsers_own_words_are_passed_on(rtx: Any) -> None:
    onnx = pytest.importorskip("onnx")
    node = onnx.helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[3, 3], dilations=[2, 2])
    port = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph([node], "g", [port("x", 1, [1, 1, 9, 9])], [port("y", 1, [1, 1, 5, 5])])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])
    with pytest.raises(ExportError, match=r"parser of tensorrt_rtx .* refused the model: .*dilations"):
        parse(rtx, model.SerializeToString())


def test_impossible_profile_is_an_error(made: Any, rtx: Any) -> None:
    kit = made("trt", None)
    recipe = recipe_for(kit)
    upside_down = ShapeProfile((8, 3, 32, 32), (1, 3, 32, 32), (2, 3, 32, 32))
    wrong = dataclasses.replace(recipe, profiles={"input": upside_down})
    with pytest.raises(ExportError, match="tensorrt_rtx"):
        build(rtx, kit.files[0].read_bytes(), wrong, capability="SM86")


@pytest.mark.skipif(not cuda.missing(), reason="there is a GPU")
def test_kit_does_not_open_without_a_gpu(made: Any) -> None:
    with pytest.raises(UnavailableError, match="NVIDIA"), made("trt", None).session():
        pass


@pytest.mark.gpu
@pytest.mark.skipif(bool(cuda.missing()), reason="needs an NVIDIA GPU")
def test_kit_runs_on_a_gpu_as_pytorch_does(made: Any) -> None:
    kit = made("trt", None)
    with kit.session() as session:
        for batch in (1, 3, 5):
            found = session.run({"input": kit.images(batch)})["logits"]
            expected = kit.reference(kit.images(batch))
            assert np.abs(found - expected).max() / np.abs(expected).max() < 1e-5


class StandIn:
    """An engine, a context and a runtime in one, with TensorRT's method names; memory as in ``test_cuda``."""

    num_io_tensors, num_layers = 2, 1

    def __init__(self, largest=8):
        self.largest, self.shape, self.addresses = largest, None, {}

    def deserialize_cuda_engine(self, plan):
        return self if plan == b"plan" else None

    def create_execution_context(self):
        return self

    def get_tensor_name(self, index):
        return "xy"[index]

    def get_tensor_mode(self, name):
        return SimpleNamespace(name="INPUT" if name == "x" else "OUTPUT")

    def get_tensor_dtype(self, name):
        return SimpleNamespace(name="FLOAT")

    def get_tensor_shape(self, name):
        return (-1, 3) if self.shape is None else self.shape

    def set_input_shape(self, name, shape):
        self.shape = shape
        return shape[0] <= self.largest

    def set_tensor_address(self, name, address):
        self.addresses[name] = address

    def execute_async_v3(self, stream):
        import ctypes

        count = int(np.prod(self.shape))
        source, target = ((ctypes.c_float * count).from_address(self.addresses[name]) for name in "xy")
        for index in range(count):
            target[index] = 2 * source[index]
        return stream == 7


class HostStream(cuda.Stream):
    """Device memory in numpy arrays."""

    def __init__(self):
        self.handle, self.arrays, self.closed = 7, {}, False

    def buffer(self, name, size):
        if name not in self.arrays or self.arrays[name].size < size:
            self.arrays[name] = np.empty(size, np.uint8)
        return self.arrays[name].ctypes.data

    def call(self, name, *arguments):
        raise ExportError(f"{name} failed with CUDA error 801")  # this device records no graphs

    def upload(self, name, array):
        address = self.buffer(name, array.nbytes)
        self.arrays[name][: array.nbytes] = np.frombuffer(array.tobytes(), np.uint8)
        return address

    def download(self, name, array):
        array.view(np.uint8).reshape(-1)[:] = self.arrays[name][: array.nbytes]

    def wait(self):
        pass

    def close(self):
        self.closed = True


def started(tmp_path, content=b"plan"):
    (tmp_path / "model.plan").write_bytes(content)
    runtime, stream = TensorRT([tmp_path / "model.plan"], *SPECS), HostStream()
    trt = SimpleNamespace(__name__="tensorrt", __version__="11.0", ILogger=object, Runtime=lambda log: StandIn())
    runtime._start(trt, stream, MACHINE)
    return runtime, stream


def test_run_goes_up_through_the_engine_and_down(tmp_path: Path) -> None:
    runtime, stream = started(tmp_path)
    for batch in (1, 5, 2, 2, 2):
        x = np.random.default_rng(batch).normal(size=(batch, 3)).astype(np.float32)
        assert np.array_equal(runtime.run({"x": x})["y"], 2 * x)
    assert (runtime.facts().precision, runtime.facts().gpu) == ("unknown", "Orin")
    assert "801" in runtime.facts().details["cuda_graphs"]
    runtime._close()
    assert stream.closed


def test_batch_beyond_the_profile_is_an_error(tmp_path: Path) -> None:
    runtime, _ = started(tmp_path)
    with pytest.raises(ExportError, match="refused shape 9x3 for 'x'"):
        runtime.run({"x": np.zeros((9, 3), np.float32)})


def test_foreign_bytes_are_not_an_engine(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="could not open the engine"):
        started(tmp_path, b"noise")


def test_engine_is_held_against_its_sidecar_before_tensorrt_sees_it(tmp_path: Path) -> None:
    side = engine.Sidecar("0" * 64, "0" * 64, "fp32", "tensorrt 11.0", MACHINE)
    (tmp_path / "model.plan.json").write_text(side.to_json())
    with pytest.raises(RefusedError, match="SHA-256"):
        started(tmp_path)
    side = dataclasses.replace(side, plan_sha256=hashlib.sha256(b"plan").hexdigest())
    (tmp_path / "model.plan.json").write_text(side.to_json())
    runtime, _ = started(tmp_path)
    assert runtime.facts().precision == "fp32"


class Flags(SimpleNamespace):
    """Enumerations of one generation, as far as the builder asks for them."""


GENERATIONS = {
    "8.6.1": (Flags(EXPLICIT_BATCH=0), Flags(FP16=1, TF32=2, GPU_FALLBACK=3), 1, [1]),
    "10.3.0": (Flags(EXPLICIT_BATCH=0, STRONGLY_TYPED=1), Flags(FP16=1, TF32=2, GPU_FALLBACK=3), 0, [1]),
    "10.13.3": (Flags(EXPLICIT_BATCH=0, STRONGLY_TYPED=1), Flags(FP16=1, TF32=2, GPU_FALLBACK=3), 2, []),
    "11.4.0": (Flags(STRONGLY_TYPED=1), Flags(TF32=2, GPU_FALLBACK=3), 2, []),
    "1.7.1": (Flags(STRONGLY_TYPED=0), Flags(TF32=2, GPU_FALLBACK=3), 1, []),
}


@pytest.mark.parametrize("version", GENERATIONS)
def test_each_generation_is_told_of_precision_in_its_own_way(version: Any) -> None:
    creation, kinds, network, fp16 = GENERATIONS[version]
    trt = SimpleNamespace(
        __version__=version, NetworkDefinitionCreationFlag=creation, BuilderFlag=kinds, DeviceType=Flags(DLA=7)
    )
    told = []
    config = SimpleNamespace(set_flag=told.append, clear_flag=lambda flag: told.append(-flag))
    assert builder.network_flags(trt) == network
    builder._set_precision(trt, config, dataclasses.replace(RECIPE, precision="fp16"))
    assert told == [-2, *fp16]
    told.clear()
    builder._set_precision(trt, config, dataclasses.replace(RECIPE, precision="fp16", dla=True))
    assert told == [-2, *fp16, 3]
    assert (config.default_device_type, config.DLA_core) == (7, 0)


@pytest.mark.gpu
@pytest.mark.skipif(bool(cuda.missing()), reason="needs an NVIDIA GPU")
def test_engine_built_to_disk_runs_is_timed_and_is_refused_when_tampered_with(made: Any, tmp_path: Path) -> None:
    kit = made("trt", None)
    trt = __import__(module_name())
    plan = engine.build_kit(kit.folder, tmp_path / "out", trt, cuda.machine())
    images = kit.images(3)
    with TensorRT([plan], kit.artifact.inputs, kit.artifact.outputs) as session:
        found = session.run({"input": images})["logits"]
        assert measure(lambda: session.run({"input": images}), warmup=2, min_seconds=0.1, min_count=20).summary().p50
    expected = kit.reference(images)
    assert np.abs(found - expected).max() / np.abs(expected).max() < 1e-5
    plan.write_bytes(plan.read_bytes()[:-1] + b"!")
    with (
        pytest.raises(RefusedError, match="SHA-256"),
        TensorRT([plan], kit.artifact.inputs, kit.artifact.outputs),
    ):
        pass


def test_sha_of_the_kit_is_that_of_its_model(made: Any) -> None:
    kit = made("trt", None)
    assert recipe_for(kit).onnx_sha256 == hashlib.sha256(kit.files[0].read_bytes()).hexdigest()
