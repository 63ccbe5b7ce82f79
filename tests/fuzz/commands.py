"""Commands that read a stranger's file, as functions of its bytes: what they say and how they end is judged.

They run in this process, without an engine: what a command does with a file that its reader accepts is part of the
target. :mod:`tests.hostile.invariants` says what must hold of every run.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import cache, partial
from pathlib import Path

from ulsam_deploy.cli import main
from ulsam_deploy.device.bundle import MANIFEST
from ulsam_deploy.device.errors import Exit

from ..hostile import invariants
from ..ulsam_deploy.device.bench.results import THROTTLED, measured, noisy, result
from ..ulsam_deploy.device.bundle.full import make_full

#: By name: the file that is a stranger's, and the words; ``out`` is removed after each run.
WORDS: Mapping[str, tuple[str, str]] = {
    "inspect_bundle": (f"model.bundle/{MANIFEST}", "inspect model.bundle"),
    "report_bundle": (f"model.bundle/{MANIFEST}", "report model.bundle -o out/page.html"),
    "compare_bundles": (f"model.bundle/{MANIFEST}", "compare sound.bundle model.bundle --markdown out/s.md"),
    "report_result": ("r.json", "report r.json -o out/page.html"),
    "compare_results": ("r.json", "compare sound.json r.json --markdown out/s.md --junit out/j.xml"),
    "compare_answers": ("a.json", "compare answer.json a.json --markdown out/s.md"),
    "compare_budget": ("b.toml", "compare sound.json sound.json --budget b.toml"),
    "sweep_plan": ("s.toml", "sweep s.toml --dry-run -o out/sweep"),
}
SEEDS = Path(__file__).parent / "seeds"


@cache
def room() -> Path:
    """A folder with the sound files, made once in each process."""
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    make_full(folder / "sound.bundle")
    shutil.copytree(folder / "sound.bundle", folder / "model.bundle")
    sound = result(measured(noisy(2, 0), THROTTLED), measured(noisy(2, 1), target="tflite")).to_json()
    (folder / "sound.json").write_text(sound)
    (folder / "answer.json").write_bytes((SEEDS / "compare_answers" / "verify.json").read_bytes())
    shutil.copy(SEEDS / "checkpoint" / "zip.pt", folder / "net.pt")
    return folder


@contextlib.contextmanager
def _inside(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def run(name: str, data: bytes) -> bool:
    """Whether the command took the file; a run that broke a rule is an :class:`AssertionError` with its words."""
    file, words = WORDS[name]
    folder = room()
    (folder / file).write_bytes(data)
    (folder / "out").mkdir()
    before = {path.name for path in folder.iterdir()}
    said = io.StringIO()
    try:
        with _inside(folder), contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            code = main(words.split())
        told = said.getvalue() + "".join(path.read_text() for path in (folder / "out").glob("*.md"))
        wrote = invariants.documents(folder / "out")
        left = {path.name for path in folder.iterdir()} - before
    finally:
        shutil.rmtree(folder / "out")
    wrong = invariants.text(told) + invariants.characters(wrote) + [f"left {one}" for one in sorted(left)]
    assert code in invariants.CODES, f"{words} ended with {code}: {told[-2000:]}"
    assert not wrong, f"{words}: {wrong}: {told[-2000:]}"
    return code in (Exit.OK, Exit.CHECK_FAILED, Exit.INCONCLUSIVE)


TARGETS: Mapping[str, Callable[[bytes], bool]] = {name: partial(run, name) for name in WORDS}


def seeds(folder: Path) -> Mapping[str, Mapping[str, bytes]]:
    """By target and name: sound files that the commands take; made in ``folder``."""
    full = (make_full(folder / "full.bundle").root / MANIFEST).read_bytes()
    sound = result(measured(noisy(2, 0), THROTTLED), measured(noisy(2, 1), target="tflite")).to_json().encode()
    budget = b'[[budget]]\ndevice = "*"\nmax_p90_ms = 1000.0\nmax_first_percent = 5.0\n'
    return {
        **{name: {"full.json": full} for name in ("inspect_bundle", "report_bundle", "compare_bundles")},
        **{name: {"sound.json": sound} for name in ("report_result", "compare_results")},
        "compare_budget": {"budget.toml": budget},
        "sweep_plan": {"sweep.toml": b'checkpoints = ["net.pt"]\ntargets = ["onnx"]\nprecisions = ["fp32", "fp16"]\n'
                       b'inputs = ["3x8x8"]\nmemory = 3.0\nbatch = 1\ndevices = ["", "rpi4"]\n'},
    }  # fmt: skip


def answer(bundle: Path) -> bytes:
    """What ``verify --json`` says of ``bundle``: this runs its engines."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(io.StringIO()):
        main(["verify", str(bundle), "--json"])
    return json.dumps(json.loads(said.getvalue())).encode()
