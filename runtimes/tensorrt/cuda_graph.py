"""The launches of an engine as one CUDA graph, recorded once it is warm: a small network waits for launches otherwise.

Device-safe. TensorRT's documentation: the first run after a change of shapes does work that cannot be recorded, and an
engine with steps that wait for the host can't be recorded at all. Such an engine goes on as it is, and says why.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Hashable

from ulsam_deploy.device.errors import ExportError

from .cuda import Stream

#: ``cudaStreamCaptureModeThreadLocal``: other threads may go on using CUDA meanwhile.
THREAD_LOCAL = 1
#: One a combination of shapes; beyond this the oldest goes.
KEPT = 8


class Replayed:
    """Work on ``stream`` that is done as given the first time, then recorded, and replayed from there on."""

    def __init__(self, stream: Stream) -> None:
        self._stream, self._warm = stream, dict[Hashable, None]()
        self._graphs: dict[Hashable, tuple[int, int]] = {}
        #: Why nothing is recorded any more; empty while it works.
        self.refused = ""

    @property
    def recorded(self) -> int:
        """How many graphs are held."""
        return len(self._graphs)

    def run(self, key: Hashable, enqueue: Callable[[], None]) -> None:
        """Do ``enqueue``'s work, which is the same for equal keys: same shapes, same device addresses."""
        if key not in self._graphs and key in self._warm and not self.refused:
            self._record(key, enqueue)
        if key in self._graphs:
            self._stream.call("cudaGraphLaunch", ctypes.c_void_p(self._graphs[key][1]), self._handle)
        else:
            enqueue()
            self._warm = dict.fromkeys([*self._warm, key][-KEPT:])

    def close(self) -> None:
        """Let go of every graph."""
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
            finally:  # a stream that is left recording is of no use to anyone
                self._stream.call("cudaStreamEndCapture", self._handle, ctypes.byref(graph))
            # The name with the same arguments in CUDA 11.4 to 13: plain cudaGraphInstantiate changed its own in 12.
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
