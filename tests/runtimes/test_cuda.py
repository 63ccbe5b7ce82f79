"""The GPU probe on this machine, and the memory layer on a stand-in whose device memory is host memory.

The stand-in is used because no CUDA runtime can be had without an NVIDIA driver; on a GPU the tests marked ``gpu`` run.
"""

from __future__ import annotations

import ctypes
import platform
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from ulsam_deploy.device.errors import ExportError, UnavailableError
from ulsam_deploy.runtimes.tensorrt import cuda, cuda_graph
from ulsam_deploy.runtimes.tensorrt.runtime import TensorRT


class HostMemory:
    """The five functions of the CUDA runtime that are used, on host memory; counts what is alive."""

    def __init__(self, fails: str = "") -> None:
        self.fails, self.alive = fails, {}

    def __getattribute__(self, name: str):
        if name.startswith("cuda") and name == object.__getattribute__(self, "fails"):
            return lambda *_: 2
        return object.__getattribute__(self, name)

    def cudaMalloc(self, pointer, size):  # noqa: N802
        block = ctypes.create_string_buffer(size.value)
        pointer._obj.value = ctypes.addressof(block)
        self.alive[pointer._obj.value] = block
        return 0

    def cudaFree(self, pointer):  # noqa: N802
        del self.alive[pointer.value]
        return 0

    def cudaMemcpyAsync(self, target, source, size, kind, stream):  # noqa: N802
        device = target if kind.value == cuda.HOST_TO_DEVICE else source
        assert device.value in self.alive
        assert size.value <= len(self.alive[device.value])
        ctypes.memmove(target, source, size.value)
        return 0

    def cudaStreamCreate(self, pointer):  # noqa: N802
        pointer._obj.value = 7
        return 0

    def cudaStreamSynchronize(self, stream):  # noqa: N802
        return 0 if stream.value == 7 else 1

    cudaStreamDestroy = cudaStreamSynchronize  # noqa: N815


def test_what_goes_up_comes_down_and_everything_is_freed() -> None:
    memory = HostMemory()
    stream = cuda.Stream(memory)
    for size in (3, 2, 5):  # grows, is kept, grows
        sent = np.arange(size, dtype=np.float32)
        stream.upload("x", sent)
        back = np.empty_like(sent)
        stream.download("x", back)
        stream.wait()
        assert np.array_equal(back, sent)
        assert len(memory.alive) == 1
    stream.close()
    assert not memory.alive


@pytest.mark.parametrize("name", ["cudaMalloc", "cudaMemcpyAsync", "cudaStreamSynchronize"])
def test_failure_is_an_error_that_names_the_call(name: str) -> None:
    stream = cuda.Stream(HostMemory(fails=name))

    def use():
        stream.upload("x", np.zeros(3, np.float32))
        stream.wait()

    with pytest.raises(ExportError, match=f"{name} failed with CUDA error 2"):
        use()


class Driver:
    """The CUDA driver and runtime of an Orin, as far as they are asked."""

    def cuDeviceGet(self, device, number):  # noqa: N802
        device._obj.value = 5
        return 0

    def cuDeviceGetName(self, name, size, device):  # noqa: N802
        name.value = b"Orin"
        return 0 if (size.value, device.value) == (256, 5) else 1

    def cuDeviceGetAttribute(self, value, which, device):  # noqa: N802
        value._obj.value = {75: 8, 76: 7}[which.value]
        return 0

    def cuDriverGetVersion(self, version):  # noqa: N802
        version._obj.value = 12060
        return 0

    def cudaRuntimeGetVersion(self, version):  # noqa: N802
        version._obj.value = 13020
        return 0


def test_a_machine_is_described_by_its_driver() -> None:
    found = cuda.machine(Driver(), Driver())
    assert (found.gpu, found.capability, found.driver, found.cuda) == ("Orin", "8.7", "12.6", "13.2")
    assert found.architecture == platform.machine()


@pytest.mark.skipif(not cuda.missing(), reason="there is a GPU")
def test_without_a_gpu_there_is_no_machine_to_describe() -> None:
    with pytest.raises(UnavailableError, match="NVIDIA"):
        cuda.machine()


@pytest.mark.skipif(not cuda.missing(), reason="there is a GPU")
def test_without_a_gpu_tensorrt_says_what_is_missing_and_is_not_imported() -> None:
    found = TensorRT.available()
    assert not found.usable
    assert "NVIDIA" in found.detail
    code = (
        "import sys; from ulsam_deploy.runtimes.tensorrt.runtime import TensorRT; TensorRT.available();"
        "assert not [name for name in sys.modules if name.startswith('tensorrt')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


class Recorder(HostMemory):
    """A stream that can be told to note work down instead of doing it, as CUDA's capture does."""

    def __init__(self, fails: str = "") -> None:
        super().__init__(fails)
        self.graphs: dict[Any, Any] = {}
        self.noted: list[str] | None = None
        self.done: list[str] = []
        self.made = 100

    def work(self, what: str) -> None:
        self.done.append(what) if self.noted is None else self.noted.append(what)

    def cudaStreamBeginCapture(self, stream, mode):  # noqa: N802
        self.noted = []
        return 0

    def cudaStreamEndCapture(self, stream, pointer):  # noqa: N802
        self.made += 1
        pointer._obj.value = self.made
        self.graphs[pointer._obj.value], self.noted = self.noted, None
        return 0

    def cudaGraphInstantiateWithFlags(self, pointer, graph, flags):  # noqa: N802
        pointer._obj.value = graph.value + 1000
        self.graphs[graph.value + 1000] = self.graphs[graph.value]
        return flags.value

    def cudaGraphLaunch(self, executable, stream):  # noqa: N802
        self.done.extend(f"replayed {what}" for what in self.graphs[executable.value])
        return 0

    def cudaGraphDestroy(self, graph):  # noqa: N802
        return 0 if self.graphs.pop(graph.value) is not None else 1

    cudaGraphExecDestroy = cudaGraphDestroy  # noqa: N815


def test_warm_work_is_recorded_once_and_replayed_for_its_own_key() -> None:
    device = Recorder()
    replayed = cuda_graph.Replayed(cuda.Stream(device))
    for key in "aabaab":
        replayed.run(key, lambda key=key: device.work(key))
    # The first run of a key warms up; the second is recorded and launched; then it is launched.
    assert device.done == ["a", "replayed a", "b", "replayed a", "replayed a", "replayed b"]
    assert replayed.recorded == 2
    replayed.close()
    assert device.graphs == {}


@pytest.mark.parametrize("name", ["cudaStreamEndCapture", "cudaGraphInstantiateWithFlags"])
def test_what_cannot_be_recorded_goes_on_unrecorded_and_says_why(name: str) -> None:
    device = Recorder(fails=name)
    replayed = cuda_graph.Replayed(cuda.Stream(device))
    for _ in range(3):
        device.noted = None
        replayed.run("a", lambda: device.work("a"))
    assert name in replayed.refused
    assert replayed.recorded == 0
    assert device.done.count("a") >= 2


def test_only_so_many_graphs_are_kept() -> None:
    device = Recorder()
    replayed = cuda_graph.Replayed(cuda.Stream(device))
    for key in range(2 * cuda_graph.KEPT):
        for _ in range(2):
            replayed.run(key, lambda key=key: device.work(str(key)))
    assert replayed.recorded == cuda_graph.KEPT
    assert len(device.graphs) == 2 * cuda_graph.KEPT
