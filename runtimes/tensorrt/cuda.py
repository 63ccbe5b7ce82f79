"""Detects an NVIDIA GPU, and manages its memory, with ctypes on the CUDA runtime. Device-safe: no cupy, no pycuda.

Detection uses the driver and must come first: without a driver, some TensorRT versions crash the process.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import platform
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ulsam_deploy.device.arrays import Array
from ulsam_deploy.device.errors import ExportError, UnavailableError

from .. import advice

#: CUDA 13 (JetPack 7), 12 (JetPack 6), 11 (JetPack 5).
RUNTIME_LIBRARIES = ("libcudart.so.13", "libcudart.so.12", "libcudart.so.11.0", "libcudart.so")
HOST_TO_DEVICE, DEVICE_TO_HOST = 1, 2
#: The driver's numbers for the two halves of the compute capability.
CAPABILITY_MAJOR, CAPABILITY_MINOR = 75, 76


def missing() -> str:
    """Why this process cannot use an NVIDIA GPU; empty if it can."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "no NVIDIA driver (libcuda.so.1)"
    if code := driver.cuInit(0):
        return f"the NVIDIA driver does not start (cuInit: error {code})"
    count = ctypes.c_int()
    if code := driver.cuDeviceGetCount(ctypes.byref(count)):
        return f"the NVIDIA driver does not list its GPUs (cuDeviceGetCount: error {code})"
    return "" if count.value else "no NVIDIA GPU (the driver lists none)"


@dataclass(frozen=True)
class GpuMachine:
    """The GPU that an engine is built for, and its software; versions as ``12.6``."""

    gpu: str
    capability: str
    driver: str
    cuda: str
    architecture: str


def machine(driver: object = None, runtime: object = None) -> GpuMachine:
    """The first GPU of this machine, from the driver; raises :class:`UnavailableError` if there is none."""
    if driver is None:
        if gap := missing():
            raise UnavailableError(gap, todo=advice.NO_GPU)
        driver = ctypes.CDLL("libcuda.so.1")
    library = runtime if runtime is not None else _runtime_library()
    name = ctypes.create_string_buffer(256)
    device, major, minor, version = (ctypes.c_int() for _ in range(4))
    _ask(driver, "cuDeviceGet", ctypes.byref(device), ctypes.c_int(0))
    _ask(driver, "cuDeviceGetName", name, ctypes.c_int(len(name)), device)
    _ask(driver, "cuDeviceGetAttribute", ctypes.byref(major), ctypes.c_int(CAPABILITY_MAJOR), device)
    _ask(driver, "cuDeviceGetAttribute", ctypes.byref(minor), ctypes.c_int(CAPABILITY_MINOR), device)
    _ask(driver, "cuDriverGetVersion", ctypes.byref(version))
    driver_version = _dotted(version.value)
    _ask(library, "cudaRuntimeGetVersion", ctypes.byref(version))
    capability = f"{major.value}.{minor.value}"
    return GpuMachine(name.value.decode(), capability, driver_version, _dotted(version.value), platform.machine())


def _dotted(version: int) -> str:
    """CUDA's 12060 as ``12.6``."""
    return f"{version // 1000}.{version % 1000 // 10}"


def _ask(library: object, name: str, *arguments: object) -> None:
    function: Callable[..., int] = getattr(library, name)
    if code := function(*arguments):
        raise ExportError(f"{name} failed with CUDA error {code}")


class Stream:
    """One CUDA stream and its device buffers. Buffers grow as needed and are reused; :meth:`close` frees them."""

    def __init__(self, library: object = None) -> None:
        self._cuda = library or _runtime_library()
        self._buffers: dict[str, tuple[int, int]] = {}
        handle = ctypes.c_void_p()
        self.call("cudaStreamCreate", ctypes.byref(handle))
        self.handle = int(handle.value or 0)

    def buffer(self, name: str, size: int) -> int:
        """The address of the device buffer ``name``, at least ``size`` bytes."""
        address, held = self._buffers.get(name, (0, 0))
        if held >= size and address:
            return address
        if address:
            del self._buffers[name]
            self.call("cudaFree", ctypes.c_void_p(address))
        pointer = ctypes.c_void_p()
        self.call("cudaMalloc", ctypes.byref(pointer), ctypes.c_size_t(max(size, 1)))
        self._buffers[name] = int(pointer.value or 0), size
        return self._buffers[name][0]

    def upload(self, name: str, array: Array) -> int:
        """Copy a contiguous ``array`` into the buffer ``name``; returns its address. Complete after :meth:`wait`."""
        address = self.buffer(name, array.nbytes)
        self._copy(address, array.ctypes.data, array.nbytes, HOST_TO_DEVICE)
        return address

    def download(self, name: str, array: Array) -> None:
        """Copy the buffer ``name`` into a contiguous ``array``, which is filled after :meth:`wait`."""
        self._copy(array.ctypes.data, self._buffers[name][0], array.nbytes, DEVICE_TO_HOST)

    def wait(self) -> None:
        """Wait until everything on the stream has finished."""
        self.call("cudaStreamSynchronize", ctypes.c_void_p(self.handle))

    def close(self) -> None:
        """Free the buffers and the stream."""
        for address, _ in self._buffers.values():
            self.call("cudaFree", ctypes.c_void_p(address))
        self._buffers.clear()
        self.call("cudaStreamDestroy", ctypes.c_void_p(self.handle))

    def _copy(self, target: int, source: int, size: int, kind: int) -> None:
        where, whence = ctypes.c_void_p(target), ctypes.c_void_p(source)
        stream = ctypes.c_void_p(self.handle)
        self.call("cudaMemcpyAsync", where, whence, ctypes.c_size_t(size), ctypes.c_int(kind), stream)

    def call(self, name: str, *arguments: object) -> None:
        """Call a function of the CUDA runtime; raises :class:`ExportError` with its error number."""
        _ask(self._cuda, name, *arguments)


def _runtime_library() -> Any:
    for name in (*RUNTIME_LIBRARIES, ctypes.util.find_library("cudart")):
        try:
            if name:
                return ctypes.CDLL(name)
        except OSError:
            continue
    raise UnavailableError("no CUDA runtime library", expected=RUNTIME_LIBRARIES[0], todo=advice.cuda())
