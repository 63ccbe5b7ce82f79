"""Walks every point at which a run can die while it writes, in forked children, and checks what is left behind.

A script (``test_crash.py`` runs it in a process of its own, because it forks): ``crash_walk.py MODE SCENE FOLDER
STRIDE``, where a stride of n visits every n-th point.
Modes: ``kill`` and ``interrupt`` strike at every *line* of the modules that write; ``full`` makes every single write
operation fail for want of space, ``quota`` makes the kernel itself refuse growing files. Prints the number of points.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import itertools
import os
import resource
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from conftest import make_bundle

from ulsam_deploy.device import cache, files
from ulsam_deploy.device.bundle import archive, output, pack, read_bundle, unpack, write
from ulsam_deploy.device.errors import UlsamError

OLD, NEW = b"old", b"new" * 2000
DONE, IN_WORDS, STRUCK, UNEXPECTED, BEYOND = 0, 10, 11, 12, 13
TRACED = {module.__file__ for module in (archive, cache, output, shutil, files, write)}
COUNTED = {"os.mkdir", "os.rename"}


class Scene:
    """What is written, where, and what may be found there afterwards."""

    def __init__(self, name: str, root: Path) -> None:
        self.name, self.root = name, root
        self.stock = root / "stock"
        self.place = root / "place"
        self.target = self.place / {"pack": "model.zip", "cache": "k" * 64}.get(name, "model.bundle")
        if name in ("two-steps", "two-steps-new"):
            files._exchange = lambda one, other: False
        make_bundle(self.stock / "new.bundle", NEW)
        make_bundle(self.stock / "old.bundle", OLD)
        for kind in ("old", "new"):
            pack(read_bundle(self.stock / f"{kind}.bundle"), self.stock / f"{kind}.zip")

    def reset(self) -> None:
        shutil.rmtree(self.place, ignore_errors=True)
        self.place.mkdir(mode=0o700)
        if self.name in ("replace", "two-steps", "unpack"):
            shutil.copytree(self.stock / "old.bundle", self.target)
        elif self.name == "pack":
            shutil.copy(self.stock / "old.zip", self.target)

    def act(self) -> None:
        if self.name == "pack":
            pack(read_bundle(self.stock / "new.bundle"), self.target)
        elif self.name == "unpack":
            unpack(self.stock / "new.zip", self.target)
        elif self.name == "cache":
            cache.Cache(self.place).put(self.target.name, self.stock / "new.bundle")
        else:
            make_bundle(self.target, NEW)

    def state(self) -> str:
        """``absent``, or which bundle is there; raises when what is there isn't whole."""
        if not self.target.exists():
            return "absent"
        if self.name == "cache":
            found = cache.Cache(self.place).get(self.target.name)
            return "absent" if found is None else "new"
        bundle = read_bundle(self.target)
        bundle.verify_integrity()
        size = (bundle.root / "golden.npz").stat().st_size
        return {len(b"golden" + OLD): "old", len(b"golden" + NEW): "new"}[size]

    def litter(self) -> list[str]:
        return [path.name for path in self.place.iterdir() if path != self.target]


def strike_at_line(number: int, blow: Callable[[], None]) -> Callable[[], bool]:
    """Call ``blow`` before the ``number``-th line of the traced modules; tells afterwards whether it came to that."""
    count = itertools.count(1)
    struck = []

    def lines(frame: FrameType, event: str, _: Any) -> Any:
        if event == "line" and next(count) == number:
            struck.append(1)
            sys.settrace(None)
            blow()
        return lines

    sys.settrace(lambda frame, *_: lines if frame.f_code.co_filename in TRACED else None)
    return lambda: bool(struck)


def fail_writes_from(number: int, place: Path) -> Callable[[], bool]:
    """From the ``number``-th operation on that needs space, every one fails; removing still works."""
    count = itertools.count(1)
    struck = []

    def check(path: Any) -> None:
        inside = isinstance(path, (str, bytes, os.PathLike)) and os.fsdecode(path).startswith(str(place))
        if inside and next(count) >= number:
            struck.append(1)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), os.fsdecode(path))

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in COUNTED or (event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)):
            check(arguments[0])

    real_exchange = files._exchange

    def fsync(fd: object) -> None:
        check(place)

    def exchange(one: Path, other: Path) -> bool:
        check(one)
        return real_exchange(one, other)

    os.fsync, files._exchange = fsync, exchange
    sys.addaudithook(hook)
    return lambda: bool(struck)


def limit_files(number: int) -> Callable[[], bool]:
    step = 997
    resource.setrlimit(resource.RLIMIT_FSIZE, (number * step, number * step))
    return lambda: number * step < 40_000


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """``error`` and everything that was being handled when it was raised."""
    while error is not None:
        yield error
        error = error.__context__


def child(scene: Scene, mode: str, number: int) -> int:
    def interrupt() -> None:
        raise KeyboardInterrupt

    try:
        if mode == "kill":
            struck = strike_at_line(number, lambda: os.kill(os.getpid(), signal.SIGKILL))
        elif mode == "interrupt":
            struck = strike_at_line(number, interrupt)
        elif mode == "none":
            struck = lambda: True  # noqa: E731
        elif mode == "full":
            struck = fail_writes_from(number, scene.place)
        else:
            struck = limit_files(number)
        scene.act()
        sys.settrace(None)
    except BaseException as error:
        # Struck inside the standard library's own clean-up, an interrupt may surface as that clean-up's error.
        if mode == "interrupt" and any(isinstance(link, KeyboardInterrupt) for link in chain(error)):
            return STRUCK
        if isinstance(error, UlsamError) and ("No space" in str(error) or "too large" in str(error)):
            return IN_WORDS
        raise
    return DONE if struck() else BEYOND


def in_child(work: Callable[[], int]) -> int:
    """The exit status of ``work`` in a fork; minus the signal that ended it."""
    process = os.fork()
    if process == 0:
        code = UNEXPECTED
        try:
            code = work()
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr)
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def walk(mode: str, scene: Scene, stride: int) -> int:
    allowed = {"kill": {-signal.SIGKILL}, "interrupt": {STRUCK, DONE}, "full": {IN_WORDS, DONE}}.get(
        mode, {IN_WORDS, DONE}
    )
    visited = 0
    for number in itertools.count(1, stride):
        scene.reset()
        before = scene.state()
        code = in_child(functools.partial(child, scene, mode, number))
        if code == BEYOND:
            break
        visited += 1
        point = f"{mode} {scene.name} point {number}"
        assert code in allowed, f"{point}: ended with {code}"
        if scene.name == "two-steps":  # its one unprotected moment is mended when the next run sweeps
            with contextlib.suppress(OSError):
                files.sweep(scene.place, scene.target.name)
        state = scene.state()
        assert state in (before, "new"), f"{point}: left {state}"
        if mode in ("full", "quota"):
            assert not scene.litter(), f"{point}: left {scene.litter()}"
            assert scene.name == "cache" or (code == DONE) == (state == "new") or mode == "full", point
        assert in_child(functools.partial(child, scene, "none", 0)) == DONE, f"{point}: the next run failed"
        assert scene.state() == "new", f"{point}: the next run left {scene.state()}"
        assert not scene.litter(), f"{point}: the next run left {scene.litter()}"
    assert scene.state() == "new", f"{mode} {scene.name}: nothing was written without a fault"
    return visited


if __name__ == "__main__":
    folder = Path(sys.argv[3])
    os.fsync = lambda fd: None  # a process that dies takes nothing from the kernel: only power cuts need it
    folder.mkdir(parents=True, exist_ok=True)
    print(walk(sys.argv[1], Scene(sys.argv[2], folder), int(sys.argv[4])))
