"""A board's software in a folder of the cache: the distribution's packages and the engines' wheels, made once.

Nothing changes on the host and root is not needed: apt works in private folders (its sources, indices, and list of
installed packages), packages are unpacked and never installed, wheels go to a folder. The packages are of the board's
own distribution, not of the host's; what apt fetches is signed with the key in ``archives/``.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ulsam_deploy.boards.emulate import elf, tools
from ulsam_deploy.device.cache import BOARDS, cache_root, key
from ulsam_deploy.device.errors import UnavailableError, UsageError
from ulsam_deploy.device.files import staging
from ulsam_deploy.device.invocation import typed
from ulsam_deploy.device.profiles import ArmProfile, Release
from ulsam_deploy.device.progress import Progress

__all__ = ["Sysroot", "entry_of", "in_use", "publish", "release_for", "sysroot"]

#: Part of the cache key; increased when the contents of a sysroot change for the same profile.
_LAYOUT = 3
#: For each release its archive and the key that signs it, as a file of apt's.
_ARCHIVES = Path(__file__).with_name("archives")
#: Names another copy of Debian's archive; as everything is signed, it need not be trusted.
_MIRROR, _DEBIAN = "ULSAM_DEPLOY_DEBIAN", "http://deb.debian.org/debian"
_ONLINE = "connect to the network once; afterwards no network is needed"
#: Configuration of apt in private folders. The host's hooks (some remove its package files) must not run for it.
_APT = """\
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Pre-Invoke;
#clear DPkg::Post-Invoke;
#clear APT::Architectures;
APT::Architecture "{architecture}";
APT::Architectures {{ "{architecture}"; }};
APT::Sandbox::User "{user}";
APT::Update::Error-Mode "any";
Acquire::Languages "none";
Dir::Etc::sourcelist "{work}/board.sources";
Dir::Etc::sourceparts "-";
Debug::NoLocking "1";
Dir::State "{work}/state";
Dir::State::status "{work}/status";
Dir::Cache "{work}/cache";
Dir::Log "{work}/log";
"""


@dataclass(frozen=True)
class Sysroot:
    """``root`` has the distribution's files, ``site`` the wheels, ``pycache`` Python's compiled files."""

    root: Path
    site: Path
    pycache: Path

    @property
    def python(self) -> Path:
        """The board's Python."""
        return self.root / "usr/bin/python3"


@contextlib.contextmanager
def in_use(found: Sysroot) -> Iterator[None]:
    """Protect it from ``cache --clear`` of another process."""
    lock = os.open(found.root.parent, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield
    finally:
        os.close(lock)


def release_for(profile: ArmProfile, board: str) -> tuple[str, Release]:
    """The release that the board has: the profile's ``release``, or its first one.

    Raises :class:`UsageError` for one that the profile does not describe, or of which there is no archive.
    """
    name = profile.release or next(iter(profile.releases), "")
    known = [path.stem for path in sorted(_ARCHIVES.glob("*.sources"))]
    if name not in profile.releases or name not in known:
        there = [each for each in profile.releases if each in known]
        raise UsageError(
            f"{board}: the profile's release is '{name}'",
            expected=f"one that the profile describes and whose archive is known: {', '.join(there) or 'none'}",
            todo=f"set 'release' of [{board}.arm]",
        )
    return name, profile.releases[name]


def sysroot(profile: ArmProfile, board: str, progress: Progress) -> Sysroot:
    """The board's software, from the cache or made now (some seconds, about 250 MB).

    Raises :class:`UnavailableError` if packages or wheels are not available, and as :func:`release_for`.
    """
    name, release = release_for(profile, board)
    _home()
    entry = entry_of(profile, board)
    if not entry.is_dir():
        with progress.stage("board software") as said, staging(entry) as partial:
            _unpack_packages(partial, profile.machine, name, release)
            _install_wheels(partial / "site", release)
            said.append(
                f"{name} {tools.DEBIAN[profile.machine]}, {len(list((partial / 'site').glob('*.dist-info')))} wheels"
            )
            publish(partial, entry)
    found = Sysroot(entry / "root", entry / "site", entry / "pycache")
    _check_pages(found, profile, board)
    return found


def entry_of(profile: ArmProfile, board: str) -> Path:
    """The path of the board's software, made or not; raises :class:`UsageError` as :func:`release_for` does."""
    name, release = release_for(profile, board)
    parts = [_LAYOUT, profile.machine, name, release.python, release.packages, release.tags, release.wheels]
    return cache_root() / BOARDS / f"{name}-{profile.machine}-{key(*parts)[:16]}"


def _home() -> None:
    """Make the folder of all sysroots; refuse it if other users can write to it, because its contents are executed."""
    home = cache_root() / BOARDS
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise UnavailableError(
            f"{home} can't be made: {error.strerror}", todo="set ULSAM_DEPLOY_CACHE to a folder of your own"
        ) from error
    if home.stat().st_mode & (stat.S_IWOTH | stat.S_IWGRP):
        raise UsageError(f"{home} isn't used: other users can write to it", todo=typed("chmod", "go-w", home))


def publish(partial: Path, entry: Path) -> None:
    """Give the finished folder its name, unless another run was faster and has made the same."""
    try:
        partial.rename(entry)
    except OSError:
        if not entry.is_dir():
            raise


def _unpack_packages(partial: Path, machine: str, name: str, release: Release) -> None:
    """Fetch the packages with their dependencies, by a private apt, and unpack them into ``root``."""
    apt, dpkg = tools.find("apt-get", "apt"), tools.find("dpkg-deb", "dpkg")
    work = partial / "apt"
    for folder in ("state/lists/partial", "cache/archives/partial", "log"):
        (work / folder).mkdir(parents=True)
    (work / "status").touch()
    sources = (_ARCHIVES / f"{name}.sources").read_text(encoding="utf-8")
    (work / "board.sources").write_text(sources.replace("@MIRROR@", os.environ.get(_MIRROR, _DEBIAN)))
    user = "root" if os.geteuid() == 0 else ""
    config = work / "apt.conf"
    config.write_text(_APT.format(architecture=tools.DEBIAN[machine], work=work, user=user))
    private = [apt, "-c", str(config), "-q", "-y"]
    doing, todo = (
        f"fetching {name}'s {tools.DEBIAN[machine]} packages",
        f"{_ONLINE}; ${_MIRROR} names a mirror of Debian",
    )
    tools.fetch([*private, "update"], doing, todo)
    tools.fetch([*private, "--no-install-recommends", "--download-only", "install", *release.packages], doing, todo)
    root = partial / "root"
    root.mkdir()
    for package in sorted((work / "cache/archives").glob("*.deb")):
        tools.fetch([dpkg, "-x", package, root], f"unpacking {package.name}", "free some disk space and run again")
    _choose_alternatives(root / "usr/lib" / tools.TRIPLET[machine])
    shutil.rmtree(work)


def _choose_alternatives(folder: Path) -> None:
    """Link libraries that a package keeps in a folder of its own (BLAS): on a board its installation script does."""
    for library in sorted(folder.glob("*/lib*.so.[0-9]*")):
        link = folder / library.name
        if not link.exists():
            link.symlink_to(library.relative_to(folder))


def _install_wheels(site: Path, release: Release) -> None:
    """Install the wheels of all engines, chosen for the board and not for this host, into ``site``."""
    wanted = sorted({requirement for wheels in release.wheels.values() for requirement in wheels})
    chosen = ["--python-version", release.python, "--implementation", "cp", "--only-binary", ":all:", "--no-deps"]
    # Older releases of pip (22.0, of Ubuntu 22.04) hold the host's Python against what a wheel requires of the board's.
    chosen.append("--ignore-requires-python")
    platforms = [word for tag in release.tags for word in ("--platform", tag)]
    tools.fetch(
        [
            *(sys.executable, "-m", "pip", "install", "-q", "--no-compile", "--disable-pip-version-check"),
            *("--target", str(site), *chosen, *platforms, *wanted),
        ],
        f"fetching the board's wheels ({', '.join(wanted)})",
        f"{_ONLINE}; this Python must have pip",
    )


def _check_pages(found: Sysroot, profile: ArmProfile, board: str) -> None:
    """Refuse wheels that the board's kernel could not map: qemu's pages are 4 KiB, those of a Pi 5 are 16 KiB."""
    page = profile.page_kib * 1024
    for library in elf.libraries(found.site):
        if elf.alignment(library) < page:
            raise UnavailableError(
                f"{library.name} can't be loaded on {board}: it is made for pages of {elf.alignment(library)} bytes",
                expected=f"libraries aligned for pages of {page} bytes",
                todo="choose another version of its package in the device profile",
            )
