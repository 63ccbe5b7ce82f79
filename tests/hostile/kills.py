"""Ends each command that writes, at random moments, and says what became of the files.

    python -m tests.hostile.kills [--moments 1.0] [--only pack] [--write]

``--write`` puts the table into docs/security.md. A command runs in a folder with a user's own files and, in the
half of the runs, with what an earlier run wrote. At a random time, or just before a random change of a file (where time
seldom falls), it gets SIGKILL, or SIGTERM, SIGINT or SIGHUP. After that every other file has its bytes, each output is
what it was or is whole, no process runs on, nothing unfinished stays (SIGKILL leaves that to the next run), and the
same command then succeeds and leaves nothing unfinished at all.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import re
import shutil
import signal
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from ulsam_deploy.device import toml
from ulsam_deploy.device.bundle import read_bundle

from ..ulsam_deploy.handmade import make_bundle
from . import watch
from .__main__ import import_everything
from .inputs import Input
from .words import _made

PAGE = Path(__file__).parents[2] / "docs" / "security.md"
BEGIN, END = "<!-- made by tests/hostile/kills.py -->", "<!-- end of kills -->"
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
INTERRUPTED = 130
#: Seconds in which a command has to end after SIGTERM, SIGINT or SIGHUP; the issue was one that took minutes.
ENDS = 60.0
_NETWORK = "new mobilenet_v1 --insert 3 --subspaces 2 --width 0.25 --classes 5 --input 3x32x32"
_EXPORT = "export net.pt --target onnx"
_BENCH = "bench model.bundle --profile quick --rounds 1"


@dataclass(frozen=True)
class Writer:
    """A command that writes ``outputs``; ``warm``: with the cache of an earlier export. ``codes``: how it may end."""

    words: str
    outputs: tuple[str, ...]
    moments: int
    warm: bool = False
    codes: frozenset[int] = frozenset({0})

    @property
    def name(self) -> str:
        """The command, with what makes it another one."""
        tuned = next((f" {word}" for word in ("--runner", "--tune") if word in self.words), "")
        cold = ", nothing cached" if self.words.startswith("export") and not self.warm else ""
        return f"{self.words.split()[0]}{tuned}{cold} ({', '.join(self.outputs)})"


WRITERS = (
    Writer("pack model.bundle -o made.zip", ("made.zip",), 36),
    Writer("pack --runner -o made.pyz", ("made.pyz",), 36),
    Writer("compare result.json result.json --junit made.xml --markdown made.md", ("made.xml", "made.md"), 36,
           codes=frozenset({0, 1, 5})),
    Writer("report model.bundle result.json -o made.html", ("made.html",), 24),
    Writer("verify model.bundle --junit made.xml --markdown made.md", ("made.xml", "made.md"), 20),
    Writer(f"{_BENCH} -o made.json", ("made.json",), 16, codes=frozenset({0, 5})),
    Writer(f"{_NETWORK} -o made.pt --force", ("made.pt",), 10),
    Writer(f"{_EXPORT} -o made.bundle --junit made.xml --markdown made.md --sarif made.sarif --save-config made.toml "
           "--force", ("made.bundle", "made.xml", "made.md", "made.sarif", "made.toml"), 24, warm=True),
    Writer(f"{_EXPORT} -o made.bundle", ("made.bundle",), 4),
    Writer("sweep sweep.toml -o made.sweep --workers 1", ("made.sweep",), 4, warm=True),
    Writer(f"{_EXPORT} --tune -o made.bundle", ("made.bundle",), 2),
)  # fmt: skip


@dataclass
class Tally:
    """What became of the runs of one command."""

    runs: int = 0
    killed: int = 0
    untouched: int = 0
    new: int = 0
    unfinished: int = 0
    longest: float = 0.0
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Life:
    """One run: its exit code (or minus a signal), its seconds, its changes of files, seconds from signal to end."""

    code: int
    seconds: float
    changes: int
    dying: float = 0.0


@dataclass(frozen=True)
class Moment:
    """When a signal comes: after so many seconds, or at a change of a file, by number."""

    sign: signal.Signals
    seconds: float | None = None
    change: int | None = None

    def __str__(self) -> str:
        when = f"after {self.seconds:.2f} s" if self.seconds is not None else f"at change {self.change}"
        return f"{self.sign.name} {when}"


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; 1 when anything was as it should not be."""
    parser = argparse.ArgumentParser(prog="python -m tests.hostile.kills", description=__doc__)
    parser.add_argument("--moments", type=float, default=1.0, help="times as many moments of each command")
    parser.add_argument("--only", action="append", metavar="WORD", help="commands that begin with this word")
    parser.add_argument("--planted", action="store_true", help="a writer that writes in place, to see that it is seen")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of the table")
    parser.add_argument("--write", action="store_true", help=f"put the table into {PAGE.name}")
    arguments = parser.parse_args(argv)
    import_everything()
    chosen = [one for one in WRITERS if not arguments.only or one.words.split()[0] in arguments.only]
    found = {}
    with tempfile.TemporaryDirectory(prefix="kills-") as name:
        stage = Stage(Path(name))
        if arguments.planted:  # not before: a checkpoint of a megabyte would take minutes
            _plant()
        for writer in chosen:
            moments = max(2, round(writer.moments * arguments.moments))
            found[writer.name] = stage.ended(writer, moments)
            sys.stderr.write(f"{_row(writer.name, found[writer.name])}\n")
            sys.stderr.write("".join(f"{writer.name}: {problem}\n" for problem in found[writer.name].problems))
            if arguments.write:  # after each command: the whole takes half an hour
                before, _, rest = PAGE.read_text().partition(BEGIN)
                PAGE.write_text(f"{before}{BEGIN}\n\n{_table(found)}\n\n{END}{rest.partition(END)[2]}")
    print(json.dumps({name: vars(tally) for name, tally in found.items()}) if arguments.json else _table(found))
    return int(any(tally.problems for tally in found.values()))


class Stage:
    """The folders from which each run starts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cold = folder / "cold"
        _rooms(self.cold)
        here = self.cold / "cwd"
        make_bundle(here / "model.bundle", targets=("onnx",), width=16, batch=1)
        (here / "result.json").write_text(_made().to_json())
        (here / "sweep.toml").write_text('checkpoints = ["net.pt"]\ntargets = ["onnx"]\n')
        (here / "thesis.tex").write_text("years of work")
        life = _live(f"{_NETWORK} -o net.pt".split(), self.cold)
        assert life.code == 0, _said(self.cold)
        self._warm: Path | None = None

    def before(self, writer: Writer) -> Path:
        """The folder from which ``writer`` starts."""
        if not writer.warm:
            return self.cold
        if self._warm is None:
            self._warm = _copied(self.cold, self.folder / "warm")
            life = _live([*_EXPORT.split(), "-o", "../out/first.bundle"], self._warm)
            assert life.code == 0, _said(self._warm)
            shutil.rmtree(self._warm / "out" / "first.bundle")
        return self._warm

    def ended(self, writer: Writer, moments: int) -> Tally:
        """Runs ``writer`` once to its end, then ends it ``moments`` times."""
        tally, words, chance = Tally(), writer.words.split(), random.Random(writer.words)
        done = _copied(self.before(writer), self.folder / "done")
        life = _live(words, done)
        if life.code not in writer.codes:
            tally.problems.append(f"ended with {life.code} without any signal: {_said(done)[-500:]}")
        whole = {name: _lines(done / "cwd" / name) for name in writer.outputs}
        again = _copied(done, self.folder / "again")
        later = _live(words, again)  # a run that finds an earlier one's cache and outputs is shorter
        for number in range(moments if not tally.problems else 0):
            fresh = number % 2 == 0
            room = _copied(self.before(writer) if fresh else done, self.folder / "room")
            usual, sign = life if fresh else later, chance.choice(SIGNALS)
            by_time = number // 2 % 2 == 0
            moment = (
                Moment(sign, seconds=chance.uniform(0, 1.05) * usual.seconds)
                if by_time
                else Moment(sign, change=chance.randint(1, max(1, usual.changes)))
            )
            tally.problems += [f"{moment}: {problem}" for problem in _judged(writer, room, moment, whole, tally)]
            shutil.rmtree(room)
        for room in (done, again):
            shutil.rmtree(room)
        return tally


def _judged(
    writer: Writer, room: Path, moment: Moment, whole: dict[str, tuple[int, str]], tally: Tally
) -> Iterator[str]:
    words, here = writer.words.split(), room / "cwd"
    before = watch.state(room)
    life = _live(words, room, moment)
    left, after = watch.running(10.0), watch.state(room)
    half, said = watch.unfinished(room), _said(room)
    hard = life.code == -signal.SIGKILL
    tally.runs += 1
    tally.killed += hard
    tally.unfinished += bool(half)
    tally.longest = max(tally.longest, life.dying)
    if life.code not in {INTERRUPTED, -moment.sign, *writer.codes}:
        yield f"ended with {life.code}: {said[-300:]}"
    yield from (f"left {what}" for what in left)
    if life.dying > ENDS:
        yield f"took {life.dying:.0f} s to end"
    yield from (f"left {what}" for what in half if not hard)
    yield from (f"said a traceback: {said[-500:]}" for _ in [0] if "Traceback" in said)
    ours = tuple(f"cwd/{name}" for name in writer.outputs)
    for name in sorted({name for name, _ in before.items() ^ after.items()}):
        if not name.startswith((*ours, "tmp/")) and not re.search(r"/\.[^/]+\.partial-", f"/{name}"):
            yield f"changed {name}"
    kept = all(_under(before, name) == _under(after, name) for name in ours)
    tally.untouched += kept
    tally.new += not kept
    for name in writer.outputs:
        if _under(before, f"cwd/{name}") != _under(after, f"cwd/{name}"):
            yield from (f"half of {name}: {why}" for why in _broken(here / name, whole[name], room))
    again = _live(words, room)
    if again.code not in writer.codes:
        yield f"the repetition ended with {again.code}: {_said(room)[-500:]}"
    for name in writer.outputs:
        yield from (f"after the repetition, half of {name}: {why}" for why in _broken(here / name, whole[name], room))
    yield from (f"after the repetition, there is {what}" for what in watch.unfinished(room))


def _under(state: dict[str, str], name: str) -> dict[str, str]:
    return {path: value for path, value in state.items() if path == name or path.startswith(f"{name}/")}


def _said(room: Path) -> str:
    return (room / "said").read_text(errors="replace")


def _lines(path: Path) -> tuple[int, str]:
    """The number of lines of a text that has no form of its own, and how it starts."""
    if path.suffix != ".md" or not path.is_file():
        return 0, ""
    text = path.read_text()
    return text.count("\n"), text[:20]


def _broken(path: Path, lines: tuple[int, str], room: Path) -> Iterator[str]:
    """Why ``path`` is no whole output, read as its users read it."""
    try:
        _READERS[path.suffix](path, room)
        if path.suffix == ".md" and _lines(path) != lines:
            yield f"{_lines(path)} instead of {lines}"
    except Exception as error:
        yield f"{type(error).__name__}: {error}"


def _bundle(path: Path, room: Path) -> None:
    read_bundle(path).verify_integrity()


def _page(path: Path, room: Path) -> None:
    if not path.read_text().rstrip().endswith("</html>"):
        raise ValueError("the page has no end")


def _program(path: Path, room: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        if archive.testzip():
            raise ValueError("damaged")


def _weights(path: Path, room: Path) -> None:
    import torch

    torch.load(path, weights_only=True)


def _sweep(path: Path, room: Path) -> None:
    """Whatever has a name in the folder of a sweep is whole; that something is missing yet is no fault."""
    for file in (one for one in path.rglob("*") if one.is_file() and ".partial-" not in one.name):
        if file.suffix in (".json", ".zip"):
            _READERS[file.suffix](file, room)


_READERS: dict[str, Callable[[Path, Path], Any]] = {
    ".bundle": _bundle,
    ".zip": _bundle,
    ".json": lambda path, room: json.loads(path.read_text()),
    ".sarif": lambda path, room: json.loads(path.read_text()),
    ".xml": lambda path, room: ElementTree.parse(path),
    ".html": _page,
    ".pyz": _program,
    ".pt": _weights,
    ".toml": lambda path, room: toml.parse(path.read_text(), path.name),
    ".md": lambda path, room: path.read_text(),
    ".sweep": _sweep,
}


def _rooms(room: Path) -> None:
    for place in watch.PLACES:
        (room / place).mkdir(parents=True)
    (room / "cache").chmod(0o700)


def _copied(source: Path, room: Path) -> Path:
    shutil.copytree(source, room, symlinks=True)
    for name in ("said", "noted"):
        (room / name).unlink(missing_ok=True)
    return room


def _live(words: list[str], room: Path, moment: Moment | None = None) -> Life:
    """Run ``words`` in ``room``; ``moment`` ends it."""
    for name in ("said", "noted"):
        (room / name).unlink(missing_ok=True)
    one = Input("kill", "", lambda folder: words)
    process = os.fork()
    if process == 0:
        for sign in (signal.SIGTERM, signal.SIGHUP):  # nohup, for one, has them ignored
            signal.signal(sign, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        watch.child(words, room, one, lambda room, noted: _hook(noted, moment))
    while not (room / "noted").exists():  # what comes before it is not the command's
        time.sleep(0.001)
    began = time.monotonic()
    sent = None
    if moment is not None and moment.seconds is not None:
        while time.monotonic() - began < moment.seconds:
            done, status = os.waitpid(process, os.WNOHANG)
            if done:
                return _life(status, began, room)
            time.sleep(0.002)
        os.kill(process, moment.sign)
        sent = time.monotonic()
    status = _waited(process, began)
    dying = time.monotonic() - sent if sent else 0.0
    return _life(status, began, room, dying)


def _waited(process: int, began: float) -> int:
    while time.monotonic() - began < 600:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            return status
        time.sleep(0.002)
    os.kill(process, signal.SIGKILL)
    return os.waitpid(process, 0)[1]


def _life(status: int, began: float, room: Path, dying: float = 0.0) -> Life:
    noted = room / "noted"
    changes = noted.stat().st_size if noted.exists() else 0
    return Life(os.waitstatus_to_exitcode(status), time.monotonic() - began, changes, dying)


def _hook(noted: int, moment: Moment | None) -> Any:
    """Counts every change of a file, one byte each, and ends the process at the one of ``moment``."""
    count = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        if event in watch.CHANGES or (event == "open" and watch.writes(arguments[2])):
            count += 1
            os.write(noted, b".")
            if moment is not None and count == moment.change:
                os.kill(os.getpid(), moment.sign)

    return hook


def _plant() -> None:
    """A writer as most programs have it: in place, piece by piece."""
    from ulsam_deploy.device.bundle.output import Output

    def in_place(self: Output, data: bytes) -> Path:
        with self.path.open("wb", buffering=0) as stream:
            for start in range(0, len(data), 64):
                stream.write(data[start : start + 64])
                time.sleep(0.02)
        return self.path

    Output.write = in_place  # type: ignore[method-assign]


_COUNTS = ("runs", "killed", "untouched", "new", "unfinished")


def _row(name: str, tally: Tally) -> str:
    cells = [name, *(str(getattr(tally, column)) for column in _COUNTS), f"{tally.longest:.1f} s"]
    return f"| {' | '.join(cells)} | {len(tally.problems)} |"


def _table(found: dict[str, Tally]) -> str:
    every = Tally(
        **{column: sum(getattr(one, column) for one in found.values()) for column in _COUNTS},
        longest=max((one.longest for one in found.values()), default=0.0),
        problems=[problem for one in found.values() for problem in one.problems],
    )
    heads = ("command and what it writes", "ended", "by SIGKILL", "outputs as before", "new and whole",
             "unfinished files until the next run", "longest end", "wrong")  # fmt: skip
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    lines += [_row(name, one) for name, one in {**found, "all": every}.items()]
    machine = f"{time.strftime('%d %B %Y')}, Linux {platform.release()}, Python {platform.python_version()}."
    return "\n".join(lines) + f"\n\n{machine}"


if __name__ == "__main__":
    sys.exit(main())
