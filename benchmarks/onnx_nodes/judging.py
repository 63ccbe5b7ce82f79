"""Judges node tests in subprocesses: a crash of one costs that one only."""

from __future__ import annotations

import enum
import multiprocessing
import os
import resource
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from unittest import mock

import numpy as np
import onnx
import torch

from ulsam_deploy.device.arrays import Array
from ulsam_deploy.device.elsewhere import job
from ulsam_deploy.device.errors import UlsamError
from ulsam_deploy.graph import Proof, capture
from ulsam_deploy.graph.evaluate import Evaluator
from ulsam_deploy.load import onnx as onnx_in
from ulsam_deploy.load.onnx import Imported

from .cases import NodeTest

#: Seconds that one node test may take, and the memory of a subprocess.
SECONDS, MEMORY = 60, 24 << 30


class Outcome(enum.Enum):
    """What came of one test."""

    RIGHT = "right"
    REFUSED = "refused"
    WRONG = "wrong"
    CRASH = "crash"


@dataclass(frozen=True)
class Judged:
    """The outcome of one test, with the reason where it is not right."""

    test: str
    operator: str
    outcome: Outcome
    words: str = ""


Judge = Callable[[NodeTest], Judged]


def judged_in_subprocesses(tests: Sequence[NodeTest], judge: Judge) -> Iterator[Judged]:
    """Each of ``tests`` by ``judge``, in a subprocess that is started again after a crash."""
    context, at = multiprocessing.get_context("fork"), 0
    while at < len(tests):
        here, there = context.Pipe()
        process = context.Process(target=_work, args=(tests[at:], judge, there), daemon=True)
        process.start()
        there.close()
        for test in tests[at:]:
            at += 1
            try:
                if not here.poll(SECONDS):
                    raise TimeoutError(f"no answer within {SECONDS} s")
                yield here.recv()
            except (EOFError, OSError) as error:
                process.kill()
                process.join()
                words = str(error) or f"the process ended with {process.exitcode}"
                yield Judged(test.name, test.operator, Outcome.CRASH, words)
                break
        here.close()
        process.join()


def _work(tests: Sequence[NodeTest], judge: Judge, answers: Connection) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    # A file is read in a process of its own; this is one already, and a thousand more take ten minutes.
    with mock.patch.object(job, "do", lambda function, asked, *_: function(asked)):
        for test in tests:
            try:
                answer = judge(test)
            except Exception as error:  # what is not one of our own errors is a defect, and counted as one
                answer = Judged(test.name, test.operator, Outcome.CRASH, f"{type(error).__name__}: {error}")
            answers.send(answer)


def imported(test: NodeTest) -> Judged:
    """``test`` read; on its own input, the network and the reference of the file must give what is expected."""
    return _judged(test, _as_it_is)


def captured(test: NodeTest) -> Judged:
    """The same with everything that an export does: captured, in float64, and compared with the reference on more."""
    return _judged(test, _captured)


def _judged(test: NodeTest, found: Callable[[Imported, NodeTest], Sequence[Array]]) -> Judged:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        onnx.save(test.model, path)
        try:
            network = onnx_in.load(path, batch=test.given.shape[0])
            wrong = difference(test, found(network, test))
            given = [torch.from_numpy(test.given.astype(np.float32))]
            wrong = wrong or difference(test, [value.numpy() for value in network.reference(given).values()])
        except UlsamError as error:
            return Judged(test.name, test.operator, Outcome.REFUSED, error.found)
    return Judged(test.name, test.operator, Outcome.WRONG if wrong else Outcome.RIGHT, wrong)


def _as_it_is(network: Imported, test: NodeTest) -> Sequence[Array]:
    with torch.no_grad():
        results = network.model(torch.from_numpy(test.given.astype(np.float32)))
    return [value.numpy() for value in results.values()]


def _captured(network: Imported, test: NodeTest) -> Sequence[Array]:
    program = capture(network.model, network.shapes, test.given.shape[0])
    Proof(program).hold(network.reference, "reading the model")
    results = Evaluator(program).run([torch.from_numpy(test.given.astype(np.float64))])
    return [value.numpy() for value in results.values()]


def difference(test: NodeTest, found: Sequence[Array]) -> str:
    """What is wrong with the outputs ``found``; empty if they are those that the test expects."""
    if len(found) != len(test.expected):
        return f"{len(found)} outputs for {len(test.expected)}"
    for (name, expected), array in zip(test.expected.items(), found):
        wanted = expected.astype(np.float64) if expected.dtype.kind not in "biu" else expected
        if array.shape != wanted.shape:
            return f"'{name}' has shape {array.shape}, not {wanted.shape}"
        coarse = 1e-2 if expected.dtype.itemsize == 2 and expected.dtype.kind not in "biu" else 0.0
        # A number half-way between two steps in float32 is rounded to the other one when a step is computed exactly.
        step = 1.0 if test.operator == "DynamicQuantizeLinear" else 0.0
        near = max(test.absolute, coarse, 1e-5, step)
        close = np.isclose(
            np.asarray(array, np.float64), wanted.astype(np.float64), max(test.relative, coarse), near, True
        )
        if not close.all():
            return f"'{name}' differs in {np.count_nonzero(~close)} of {close.size} elements"
    return ""
