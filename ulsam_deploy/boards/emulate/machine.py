"""One emulated board: its files, its ``/proc/cpuinfo``, qemu on its processor model, and the device runner inside."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import signal
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from ulsam_deploy.boards.emulate import tools
from ulsam_deploy.boards.emulate.sysroot import Sysroot, in_use, publish, release_for, sysroot
from ulsam_deploy.device.cache import source_digest
from ulsam_deploy.device.elsewhere import job
from ulsam_deploy.device.elsewhere.limits import Limits
from ulsam_deploy.device.elsewhere.message import asked
from ulsam_deploy.device.errors import Exit, ExportError, UlsamError, UnavailableError
from ulsam_deploy.device.files import scratch, staging
from ulsam_deploy.device.profiles import ArmProfile, device
from ulsam_deploy.device.progress import Progress

__all__ = ["EmulatedMachine", "TrapError", "cpuinfo", "emulated", "profile_of"]

#: Seconds for one artifact; a large network with all its probes takes about one minute.
PATIENCE = 1800
#: Bytes of address space of a 64-bit guest; reserved, not used.
_ADDRESSES = hex(1 << 36)
_OLD = 7 * 24 * 3600
_GUEST = Path(__file__).with_name("guest.py")

Q = TypeVar("Q")
A = TypeVar("A")


class TrapError(UlsamError):
    """The processor stopped the engine: the artifact does not run on it (exit 1)."""

    exit_code = Exit.CHECK_FAILED


def profile_of(board: str) -> ArmProfile:
    """The ARM side of a device profile; raises :class:`UnavailableError` for a device that can't be emulated."""
    arm = device(board).arm
    if arm is None:
        from ulsam_deploy.device.profiles import devices

        boards = ", ".join(name for name, found in devices().items() if found.arm)
        raise UnavailableError(f"{board} can't be emulated: its profile has no [{board}.arm]", expected=boards)
    return arm


@dataclass(frozen=True)
class EmulatedMachine:
    """A board ready to run. ``root`` is ``/`` in the emulation: links into the sysroot, and the board's own files."""

    board: str
    profile: ArmProfile
    targets: tuple[str, ...]
    sysroot: Sysroot
    root: Path
    runner: Path

    def run(self, function: Callable[[Q], A], request: Q, *, plugin: Sequence[str] = ()) -> A:
        """Call ``function`` of ``guest.py`` with ``request`` in the emulation.

        Raises the :class:`UlsamError` that ``function`` raised, and :class:`TrapError` if the processor stopped it.
        """
        doing, limits = f"the emulated {self.board}", Limits(PATIENCE, None, "off")
        with scratch() as folder:
            with (folder / job.QUESTION).open("wb") as question:
                asked(function, request, question)
            try:
                code, said = job.run(self._command(plugin), folder, self._variables(), limits, doing)
            except ExportError as error:
                raise UnavailableError(f"{doing} took more than {PATIENCE} s") from error
            if (folder / job.ANSWER).is_file():
                return job.value_of(job.answer(function, folder, said, limits, doing), limits, doing)
        if code < 0:
            raise self._trap(signal.Signals(-code))
        raise UnavailableError(f"{self.board} could not be emulated: {(said.splitlines() or [str(code)])[-1]}")

    def _reserved(self) -> list[str]:
        """A reserved address space for the guest, so that the host's randomized one has no effect."""
        return ["-R", _ADDRESSES] if self.profile.machine == "aarch64" else []  # qemu does so itself for 32 bits

    def _command(self, plugin: Sequence[str]) -> list[str]:
        program = tools.qemu(self.profile.machine)
        command = [program, "-L", str(self.root), "-cpu", self.profile.cpu, "-seed", "1", *self._reserved(), *plugin]
        return [*command, str(self.sysroot.python), "-S", "-s", str(_GUEST)]

    def _variables(self) -> dict[str, str]:
        """Make random numbers, names and addresses the same each time, so that counts are too."""
        return {
            "PYTHONPATH": f"{self.runner}:{self.sysroot.site}:{self.sysroot.root}/usr/lib/python3/dist-packages",
            "PYTHONPYCACHEPREFIX": str(self.sysroot.pycache),
            "PYTHONHASHSEED": "0",
            "OMP_NUM_THREADS": "1",
            "HOME": ".",
            "TMPDIR": ".",
            "LANG": "C.UTF-8",
            "PATH": "/usr/bin",
        }

    def _trap(self, number: signal.Signals) -> TrapError:
        core = self.profile.core
        if number == signal.SIGILL:
            return TrapError(
                f"this kernel does not run on a {core}: it uses an instruction that processor lacks ({number.name})",
                expected=f"an engine that chooses its kernels for {self.board}",
                todo="choose another version of the engine, or correct the features in the device profile",
            )
        return TrapError(
            f"the engine was stopped by {number.name} on the emulated {core}", todo="report it with the bundle"
        )


@contextlib.contextmanager
def emulated(board: str, progress: Progress) -> Iterator[EmulatedMachine]:
    """The board called ``board``, with its software fetched or taken from the cache.

    Raises :class:`UsageError` for an unknown one, :class:`UnavailableError` if emulation isn't possible here.
    """
    profile = profile_of(board)
    tools.check_model(tools.qemu(profile.machine), profile.cpu, board)
    software = sysroot(profile, board, progress)
    _, release = release_for(profile, board)
    with in_use(software), tempfile.TemporaryDirectory(prefix="ulsam-deploy-") as scratch:
        root = Path(scratch, "root")
        root.mkdir()
        for entry in software.root.iterdir():
            if entry.name not in ("proc", "sys"):
                (root / entry.name).symlink_to(entry)
        _describe(root, profile)
        yield EmulatedMachine(board, profile, tuple(release.wheels), software, root, _runner(software))


def cpuinfo(profile: ArmProfile) -> str:
    """``/proc/cpuinfo`` as the board's Linux prints it."""
    core = (
        "processor\t: {number}\n"
        "BogoMIPS\t: 108.00\n"
        f"Features\t: {' '.join(profile.features)}\n"
        f"CPU implementer\t: {profile.implementer}\n"
        "CPU architecture: 8\n"
        f"CPU variant\t: {profile.variant}\n"
        f"CPU part\t: {profile.part}\n"
        f"CPU revision\t: {profile.revision}\n\n"
    )
    return "".join(core.format(number=number) for number in range(profile.cores)) + f"Model\t\t: {profile.model}\n"


def _describe(root: Path, profile: ArmProfile) -> None:
    """Write the files that engines read to choose kernels; without them LiteRT reads the host's and crashes."""
    (root / "proc").mkdir()
    (root / "proc/cpuinfo").write_text(cpuinfo(profile))
    folder = root / "sys/devices/system/cpu"
    folder.mkdir(parents=True)
    for name in ("possible", "present", "online"):
        (folder / name).write_text(f"0-{profile.cores - 1}\n" if profile.cores > 1 else "0\n")


def _runner(software: Sysroot) -> Path:
    """The device runner, unpacked so that its compiled files can be stored; those not used for a week are removed."""
    from ulsam_deploy.boards.runner import runner_bytes

    path = software.root.parent / f"runner-{source_digest()[:16]}"
    if not path.is_dir():
        for old in path.parent.glob("runner-*"):
            if time.time() - old.stat().st_mtime > _OLD:
                shutil.rmtree(old, ignore_errors=True)
        with staging(path) as partial, zipfile.ZipFile(io.BytesIO(runner_bytes())) as archive:
            archive.extractall(partial)
            publish(partial, path)
    os.utime(path)
    return path
