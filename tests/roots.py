"""Bare roots of distributions, made by ``mmdebstrap``: what an image has, where no builder of images is at hand.

They need root's rights and the network, and serve tests only: what runs inside is not kept from the machine.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import shutil
import subprocess
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from . import needs

_TREE = Path(__file__).parents[1]
_DEBIAN, _UBUNTU = "http://deb.debian.org/debian", "http://archive.ubuntu.com/ubuntu"
_DEBIAN_KEYS = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_UBUNTU_KEYS = Path("/usr/share/keyrings/ubuntu-archive-keyring.gpg")
#: Where a host has no package with Ubuntu's keys; its archive key is F6EC B376 2474 EDA9 D21B 7022 8719 20D1 991B C93C.
_UBUNTU_KEYRING = f"{_UBUNTU}/pool/main/u/ubuntu-keyring/ubuntu-keyring_2023.11.28.1_all.deb"
_KEYRING_SHA256 = "36de43b15853ccae0028e9a767613770c704833f82586f28eb262f0311adb8a8"


@dataclass(frozen=True)
class Distribution:
    """A release, the archive that has it, and the parts of that which its image is set up with."""

    release: str
    mirror: str
    components: str = "main"


#: By the name of its image.
DISTRIBUTIONS = {
    "debian:12": Distribution("bookworm", _DEBIAN),
    "debian:13": Distribution("trixie", _DEBIAN),
    "ubuntu:22.04": Distribution("jammy", _UBUNTU, "main,universe"),
    "ubuntu:24.04": Distribution("noble", _UBUNTU, "main,universe"),
}


def obstacle() -> str:
    """Why no root can be made here, as a sentence; empty if one can."""
    if lacking := [word for word in ("mmdebstrap", "unshare", "chroot") if not needs.where(word)]:
        return f"a bare root needs {', '.join(lacking)}: {needs.INSTALL} mmdebstrap"
    return "" if os.geteuid() == 0 else "a bare root needs the rights of root"


@dataclass
class Root:
    """A root, in which commands run as in a container that shares pip's settings and cache with this machine."""

    path: Path
    variables: dict[str, str] = field(default_factory=dict)

    def run(self, words: Sequence[str], folder: str = "/", /, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command inside, in ``folder``; stdout and stderr are one text, in the order in which they came."""
        mounts = []
        for outside, inside in _shared().items():
            place = self.path / inside[1:]
            if outside.is_dir():
                place.mkdir(parents=True, exist_ok=True)
            # A file, such as certificates, replaces that of the image's packages once they are installed.
            if outside.is_dir() or place.is_file():
                mounts.append(f"mount --bind '{outside}' '{place}'")
        enter = f'exec {needs.where("chroot")} {self.path} sh -c \'cd "$FOLDER" && exec "$@"\' sh "$@"'
        whole = {**self.variables, **environment, "FOLDER": folder}
        inside_words = ["unshare", "--mount", "sh", "-e", "-c", "\n".join([*mounts, enter]), "sh", *words]
        merged = subprocess.STDOUT
        return subprocess.run(inside_words, env=whole, stdout=subprocess.PIPE, stderr=merged, text=True)


def make(distribution: str, folder: Path) -> Root:
    """A new root of the distribution, in ``folder``."""
    spec = DISTRIBUTIONS[distribution]
    keys = _DEBIAN_KEYS if spec.mirror == _DEBIAN else _ubuntu_keys(folder)
    root = folder / "root"
    words = ["--variant=minbase", "--include=apt", f"--components={spec.components}", f"--keyring={keys}", spec.release]
    subprocess.run(["mmdebstrap", "--quiet", *words, root, spec.mirror], check=True)
    shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
    variables = {
        "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "DEBIAN_FRONTEND": "noninteractive",
    }
    return Root(root, variables | {key: value for key, value in os.environ.items() if key.startswith("PIP_")})


def _ubuntu_keys(folder: Path) -> Path:
    if _UBUNTU_KEYS.is_file():
        return _UBUNTU_KEYS
    package = folder / "keyring.deb"
    with urllib.request.urlopen(_UBUNTU_KEYRING, timeout=60) as answer:
        package.write_bytes(answer.read())
    assert hashlib.sha256(package.read_bytes()).hexdigest() == _KEYRING_SHA256
    subprocess.run(["dpkg-deb", "-x", package, folder / "keyring"], check=True)
    return folder / "keyring" / _UBUNTU_KEYS.relative_to("/")


@functools.cache
def _shared() -> dict[Path, str]:
    """What of this machine is seen inside, and where."""
    said = subprocess.run(["python3", "-m", "pip", "config", "list"], capture_output=True, text=True).stdout
    paths = re.findall(r"(?:file://)?(/[\w./-]+)", said)
    uses = {"/".join(path.split("/")[:3]) for path in paths if Path(path).is_dir() or path.startswith("/opt/")}
    uses |= {path for path in paths if Path(path).is_file()}
    cache = Path.home() / ".cache" / "pip"
    cache.mkdir(parents=True, exist_ok=True)
    return {Path(path): path for path in sorted({"/proc", "/dev", *uses})} | {cache: "/root/.cache/pip"}


def copy_tree(to: Path) -> None:
    """Copy what ``COPY . TO`` of a Dockerfile would."""
    ignored = shutil.ignore_patterns(*(_TREE / ".dockerignore").read_text().split(), "__pycache__")
    shutil.copytree(_TREE, to, ignore=ignored)
