"""An error is the same on both sides of every boundary, and a message is nothing but what was sent."""

from __future__ import annotations

import io
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pytest

from ulsam_deploy.boards.emulate.machine import TrapError
from ulsam_deploy.boards.remote import Finished
from ulsam_deploy.cli.hosts import HostReply, document
from ulsam_deploy.device import codec
from ulsam_deploy.device.arrays import ArrayMap
from ulsam_deploy.device.commands.documents import VerifyDocument
from ulsam_deploy.device.elsewhere import job
from ulsam_deploy.device.elsewhere.failure import Failure
from ulsam_deploy.device.elsewhere.limits import Limits
from ulsam_deploy.device.elsewhere.message import asked, packed, performed, received, replied
from ulsam_deploy.device.elsewhere.worker import DiedError, Worker
from ulsam_deploy.device.errors import (
    CheckFailedError,
    DefectError,
    Exit,
    ExportError,
    OutOfMemoryError,
    RefusedError,
    UlsamError,
    UnavailableError,
    UsageError,
)
from ulsam_deploy.exporting.workers import local
from ulsam_deploy.sweep.executors import _Cluster

LIMITS = Limits(60, 4 << 30)


@dataclass(frozen=True)
class Text:
    text: str


@dataclass(frozen=True)
class Mixed:
    place: Path
    one: ArrayMap
    many: tuple[int | None, ...]
    two: ArrayMap


def mirror(mixed: Mixed) -> Mixed:
    return mixed


def fail(text: Text) -> Text:
    raise ERRORS[text.text]


def forget(text: Text) -> Text:
    raise KeyError(text.text)


def chatter(text: Text) -> Text:
    return Text("x" * int(text.text))


def leave(text: Text) -> Text:
    os._exit(int(text.text))


def process(_: Text) -> Text:
    return Text(str(os.getpid()))


ERRORS: dict[str, UlsamError] = {
    "usage": UsageError("a", expected="b", todo="c"),
    "refused": RefusedError("gone \udcff", todo="c"),
    "absent": UnavailableError("none"),
    "memory": OutOfMemoryError("so little"),
    "inconclusive": CheckFailedError("a", exit_code=Exit.INCONCLUSIVE),
    "trap": TrapError("SIGILL", expected="b"),
    "defect": DefectError("mine"),
}


def over_a_job(error: str) -> None:
    job.do(fail, Text(error), LIMITS, "this")


def over_a_worker(error: str) -> None:
    with Worker(LIMITS) as worker:
        received(worker.ask(fail, Text(error), "this"))


def over_a_task_of_a_sweep(error: str) -> None:
    with local(1) as pool:
        pool.submit(fail, Text(error)).result()


def over_a_task_of_a_cluster(error: str) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as threads:
        _Cluster(threads).submit(fail, Text(error)).result()


def over_what_a_board_prints(error: str) -> None:
    told = ERRORS[error]
    out = json.dumps({"schema": "ulsam-deploy.error/2", **asdict(Failure.of(told))})
    answer = HostReply("pi", Finished(int(told.exit_code), out, "", {}, "3.11", "aarch64"), None, told.exit_code)
    assert document(answer, VerifyDocument) is None
    assert answer.error
    assert answer.error.found.startswith("pi: ")
    assert answer.code is answer.error.exit_code
    answer.error.found = answer.error.found.removeprefix("pi: ")
    raise answer.error


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes import these functions by their module's name."""
    monkeypatch.syspath_prepend(Path(__file__).parents[3])


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize(
    "over",
    [over_a_job, over_a_worker, over_a_task_of_a_sweep, over_a_task_of_a_cluster, over_what_a_board_prints],
)
def test_an_error_comes_back_as_itself(over: Callable[[str], None], error: str) -> None:
    sent = ERRORS[error]
    with pytest.raises(UlsamError) as raised:
        over(error)
    found = raised.value
    if over is over_a_job and error == "memory":  # which has words for the limit
        assert type(found) is OutOfMemoryError
        assert "this needed more memory than the 4 GiB allowed" in found.found
        return
    assert type(found) is type(sent)
    assert (found.exit_code, found.expected, found.todo) == (sent.exit_code, sent.expected, sent.todo)
    assert found.found == sent.found.replace("\udcff", r"\udcff")


def test_an_error_of_an_unknown_class_is_the_one_of_its_exit_code_and_nothing_is_imported() -> None:
    error = Failure("antigravity.FlyingError", 6, "a", "b", "c").error()
    assert type(error) is RefusedError
    assert (error.found, error.expected, error.todo) == ("a", "b", "c")
    assert type(Failure("x.LaterError", 5, "a", "", "").error()) is UlsamError


@pytest.mark.parametrize("code", [0, 9, -1])
def test_an_exit_code_that_no_error_has_is_refused(code: int) -> None:
    plain = {"kind": "x", "exit_code": code, "found": "", "expected": "", "todo": ""}
    with pytest.raises(RefusedError, match="the answer: at"):
        codec.decode(Failure, plain, "the answer")


def test_what_nobody_foresaw_is_a_crash_over_a_file_and_else_a_defect(
    worker: Worker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(ExportError, match="this crashed: KeyError: 'oops'"):
        job.do(forget, Text("oops"), LIMITS, "this")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(DefectError, match="KeyError: 'oops'"):
        received(worker.ask(forget, Text("oops"), "this"))
    (kept,) = tmp_path.glob("ulsam-deploy-defect-*.txt")
    assert "in forget" in kept.read_text()


@pytest.fixture
def worker() -> Iterator[Worker]:
    with Worker(LIMITS, quiet=True) as one:
        yield one


def test_a_message_holds_what_was_sent(worker: Worker, tmp_path: Path) -> None:
    odd = os.fsdecode(b"/a \xff\xc3\xa9 name")
    arrays = {"x/y": np.arange(6, dtype=np.float16).reshape(2, 3), "": np.zeros((0, 2), bool)}
    sent = Mixed(Path(odd), arrays, (None, 1), {"words": np.array(7)})
    for found in (job.do(mirror, sent, LIMITS, "this"), received(worker.ask(mirror, sent, "this"))):
        assert (found.place, found.many, list(found.one)) == (sent.place, sent.many, ["x/y", ""])
        for name, array in arrays.items():
            assert found.one[name].dtype == array.dtype
            assert np.array_equal(found.one[name], array)
        assert found.two["words"] == 7


def test_an_array_too_few_is_no_message() -> None:
    call = packed(mirror, Mixed(Path("/"), {"a": np.zeros(1)}, (), {}))
    with np.load(io.BytesIO(call)) as stored:
        some = {name: array for name, array in stored.items() if name != "0"}
    cut = io.BytesIO()
    np.savez(cut, **some)
    with pytest.raises(ExportError, match="these are not its arrays"):
        received(replied(mirror, io.BytesIO(performed(cut.getvalue()))))


def test_a_worker_keeps_its_process_and_dies_with_words(worker: Worker) -> None:
    first, second = (received(worker.ask(process, Text(""), "this")).text for _ in range(2))
    assert first == second == str(worker.pid)
    with pytest.raises(DiedError, match=r"this crashed \(exit status 7\)"):
        worker.ask(leave, Text("7"), "this")


def test_an_answer_that_is_too_large_ends_the_worker(worker: Worker) -> None:
    with pytest.raises(ExportError, match="the answer of this is larger than 67108864 bytes"):
        worker.ask(chatter, Text(str(65 << 20)), "this")
    with pytest.raises(ProcessLookupError):
        os.kill(worker.pid, 0)


def test_what_cannot_be_sent_is_said_before_anything_runs() -> None:
    with pytest.raises(ExportError, match="isn't valid Unicode"):
        asked(forget, Text("\udcff"), io.BytesIO())
