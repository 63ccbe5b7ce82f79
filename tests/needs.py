"""Programs that some tests need besides make and Python: where they are looked for, and what to install for them.

Standard library only. ``.ci/run`` runs it as a program, before anything is installed:

    python3 tests/needs.py missing       the Debian packages that lack here
    python3 tests/needs.py bare DIR      fill DIR with what PATH has on a fresh Debian with make and Python, and no more
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

#: A program, and the Debian packages that it takes.
PACKAGES = {
    "cc": ("gcc", "libc6-dev"),
    "chromedriver": ("chromium-driver",),
    "chromium": ("chromium",),
    "ps": ("procps",),
    "qemu-aarch64": ("qemu-user",),
    "ssh": ("openssh-client",),
    "ssh-keygen": ("openssh-client",),
    "sshd": ("openssh-server",),
}
#: What every test with one of these marks needs.
OF_MARK = {"arm": ("cc", "qemu-aarch64"), "browser": ("chromedriver", "chromium")}
#: Where programs lie that the PATH of a user who is not root may not name; who hides programs sets this to nothing.
PLACES = os.environ.get("ULSAM_DEPLOY_TEST_PLACES", "/usr/local/sbin:/usr/sbin:/sbin")
INSTALL = "apt-get install --no-install-recommends"


def where(program: str) -> str | None:
    """The path of ``program``, or ``None``: the one way in which tests look for it."""
    return shutil.which(program, path=os.pathsep.join([os.environ.get("PATH", ""), PLACES]))


def missing(programs: Iterable[str] = PACKAGES) -> list[str]:
    """The packages to install for ``programs``, without those that are here."""
    return sorted({package for program in programs if not where(program) for package in PACKAGES[program]})


def lacking(programs: Iterable[str]) -> str:
    """Which of ``programs`` are not here, and what to do, in a sentence; empty where all are."""
    absent = [program for program in sorted(set(programs)) if not where(program)]
    return f"needs {', '.join(absent)}: {INSTALL} {' '.join(missing(absent))}" if absent else ""


def install_line() -> str:
    """The one line that makes every test run that skips for want of a program."""
    return f"{INSTALL} {' '.join(sorted({package for packages in PACKAGES.values() for package in packages}))}"


def bare(folder: Path) -> None:
    """Fill ``folder`` with links to the programs of Debian's required packages, of make, and with ``python3``."""
    query = ["dpkg-query", "-W", "-f", "${Package}\t${Priority}\t${Essential}\n"]
    listed = [line.split("\t") for line in subprocess.check_output(query, text=True).splitlines()]
    required = {name for name, priority, essential in listed if priority == "required" or essential == "yes"}
    required |= {"apt", "make"} & {name for name, *_ in listed}
    files = subprocess.check_output(["dpkg", "-L", *sorted(required)], text=True).split("\n")
    programs = {Path(file).name for file in files if Path(file).parent.name in ("bin", "sbin")} | {"awk", "which"}
    folder.mkdir(parents=True, exist_ok=True)
    for program in sorted(programs):
        if found := where(program):
            (folder / program).symlink_to(found)
    # No link: an environment that is made by a link would look for its Python beside it.
    (folder / "python3").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (folder / "python3").chmod(0o755)


if __name__ == "__main__":
    if sys.argv[1:] == ["missing"]:
        print(*missing(), sep="\n", end="\n" if missing() else "")
    elif len(sys.argv) == 3 and sys.argv[1] == "bare":
        bare(Path(sys.argv[2]))
    else:
        sys.exit(__doc__)
