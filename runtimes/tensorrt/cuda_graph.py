"""Records an engine's launches as one CUDA graph after the first run: otherwise launches dominate a small network.

Device-safe. According to TensorRT's documentation, the first run after a change of shapes does work that cannot be
recorded, and an engine with steps that wait for the host cannot be recorded at all. Such an engine runs without a
graph, and the reason is reported.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Hashable

from ulsam_deploy.device.errors import ExportError

from .cuda import Stream

#: ``cudaStreamCaptureModeThreadLocal``: other threads may use CUDA during the capture.
THREAD_LOCAL = 1
#: One graph for each combination of shapes; beyond this number the oldest is dropped.
KEPT = 8


class Replayed:
    """Work on ``stream`` that runs normally the first time, is then recorded, and is replayed from then on."""

    def __init__(self, stream: Stream) -> None:
        self._stream, self._warm = stream, dict[Hashable, None]()
        self._graphs: dict[Hashable, tuple[int, int]] = {}
        #: Why recording has stopped; empty while it works.
        self.refused = ""

    @property
    def recorded(self) -> int:
        """The number of recorded graphs."""
        return len(self._graphs)

    def run(self, key: Hashable, enqueue: Callable[[], None]) -> None:
        """Do the work of ``enqueue``; equal keys mean the same work: same shapes, same device addresses."""
        if key not in self._graphs and key in self._warm and not self.refused:
            self._record(key, enqueue)
        if key in self._graphs:
            self._stream.call("cudaGraphLaunch", ctypes.c_void_p(self._graphs[key][1]), self._handle)
        else:
            enqueue()
            self._warm = dict.fromkeys([*self._warm, key][-KEPT:])

    def close(self) -> None:
        """Free every graph."""
        for key in list(self._graphs):
            self._drop(key)

    @property
    def _handle(self) -> ctypes.c_void_p:
        return ctypes.c_void_p(self._stream.handle)

    def _record(self, key: Hashable, enqueue: Callable[[], None]) -> None:
        graph, executable = ctypes.c_void_p(), ctypes.c_void_p()
        try:
            self._stream.call("cudaStreamBeginCapture", self._handle, ctypes.c_int(THREAD_LOCAL))
            try:
                enqueue()
            finally:  # a stream that is left in capture mode cannot be used again
                self._stream.call("cudaStreamEndCapture", self._handle, ctypes.byref(graph))
            # Same arguments in CUDA 11.4 to 13, while those of plain cudaGraphInstantiate changed in 12.
            flags = ctypes.c_ulonglong(0)
            self._stream.call("cudaGraphInstantiateWithFlags", ctypes.byref(executable), graph, flags)
        except ExportError as error:
            self.refused = error.found
            return
        if len(self._graphs) == KEPT:
            self._drop(next(iter(self._graphs)))
        self._graphs[key] = int(graph.value or 0), int(executable.value or 0)

    def _drop(self, key: Hashable) -> None:
        graph, executable = self._graphs.pop(key)
        self._stream.call("cudaGraphExecDestroy", ctypes.c_void_p(executable))
        self._stream.call("cudaGraphDestroy", ctypes.c_void_p(graph))
