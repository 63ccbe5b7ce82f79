"""Lets ONNX Runtime's quantizer, which opens sessions with options of its own, compute in one thread.

Its threads wait for each other by spinning: see :mod:`ulsam_deploy.device.share`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def one_thread() -> Iterator[None]:
    """Give one thread to every session whose options are made in the block: the quantizer has no option for it."""
    import onnxruntime

    class Options(onnxruntime.SessionOptions):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.intra_op_num_threads = 1

    before, onnxruntime.SessionOptions = onnxruntime.SessionOptions, Options
    try:
        yield
    finally:
        onnxruntime.SessionOptions = before
