"""Words of a stranger that reach a terminal or a CI service: in bundles, results, names of files, what is typed."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from ulsam_deploy.device.bundle import MANIFEST
from ulsam_deploy.device.npz import read_arrays, write_arrays

from ..ulsam_deploy.device.bench.results import THROTTLED, measured, noisy, result
from ..ulsam_deploy.device.bundle.full import changed, make_full, routes
from ..ulsam_deploy.handmade import make_bundle
from ..ulsam_deploy.load import test_checkpoint_hostile as known
from .bundles import copied, resealed
from .inputs import Input

#: A title, a cleared screen, commands to several CI services, text turned round.
EVIL = (
    "x\x1b]0;own\x07\x1b[2J\n::error title=pwn::owned\n::add-mask::a\u202etxt.exe\u2066\u2028##[error]y\r::stop"
    "\n##vso[task.setvariable variable=x]y"
)
#: The name of a file cannot have a slash or a NUL.
NAME = EVIL.replace("/", "")[:120]
ANY = frozenset(range(7))
COMMANDS = (
    ["inspect", "model.bundle"],
    ["report", "model.bundle", "-o", "../out/page.html"],
    [
        "verify",
        "model.bundle",
        "--target",
        "onnx",
        "--markdown",
        "../out/summary.md",
        "--junit",
        "../out/junit.xml",
        "--sarif",
        "../out/s.sarif",
    ],
    ["bench", "model.bundle", "--profile", "quick", "--rounds", "1", "--target", "onnx"],
)
RESULTS = (
    [
        "compare",
        "r.json",
        "r.json",
        "--markdown",
        "../out/s.md",
        "--junit",
        "../out/j.xml",
        "--sarif",
        "../out/s.sarif",
    ],
    ["report", "r.json", "-o", "../out/p.html"],
)
#: Words typed by a user or a script, whose values may come from elsewhere.
TYPED: dict[str, list[str]] = {
    "new": ["new", EVIL],
    "new -o": ["new", "mobilenet_v1", "-o", f"{NAME}/x.pt"],
    "new --insert": ["new", "mobilenet_v1", "--insert", EVIL],
    "pack": ["pack", NAME],
    "lint": ["lint", NAME],
    "lint --model": ["lint", "--model", f"{EVIL}:b", "x.pt"],
    "export": ["export", NAME],
    "export --target": ["export", "small.pt", "--target", EVIL],
    "export --precision": ["export", "small.pt", "--precision", EVIL],
    "export --device": ["export", "small.pt", "--device", EVIL],
    "export --arch": ["export", "small.pt", "--arch", EVIL],
    "export --input": ["export", "small.pt", "--input", EVIL],
    "export --keep": ["export", "small.pt", "--precision", "int8", "--keep", EVIL],
    "export --limit": ["export", "small.pt", "--precision", "auto", "--limit", EVIL],
    "export -o": ["export", "small.pt", "-o", f"../out/{NAME}"],
    "verify": ["verify", NAME],
    "verify --target": ["verify", "model.bundle", "--target", EVIL],
    "verify --host": ["verify", "model.bundle", "--host", EVIL],
    "verify --key": ["verify", "model.bundle", "--key", NAME],
    "verify --against": ["verify", "--against", NAME, NAME],
    "bench --cpus": ["bench", "model.bundle", "--cpus", EVIL],
    "bench --rounds": ["bench", "model.bundle", "--rounds", EVIL],
    "report": ["report", NAME, "-o", "../out/p.html"],
    "compare": ["compare", NAME, NAME],
    "inspect": ["inspect", NAME],
    "sweep": ["sweep", NAME],
    "build": ["build", NAME],
    "doctor --host": ["doctor", "--host", EVIL],
    "a command": [EVIL],
    "an option": ["export", f"--{EVIL}"],
    "an option's value": ["export", "x", f"--batch={EVIL}"],
    "a NUL": ["inspect", "a\0b"],
    "a NUL in an output": ["report", "model.bundle", "-o", "a\0b"],
    "a NUL in a configuration's name": ["export", "--config", "a\0b"],
    "a lone surrogate": ["inspect", "a\udce9b"],
    "a very long name": ["inspect", "n" * 5000],
    "a very long output": ["report", "model.bundle", "-o", "n" * 5000],
    "--json": ["inspect", NAME, "--json"],
}
_SWEEP = 'checkpoints = ["small.pt"]\ntargets = ["onnx"]\n'
#: Files that are read, with a key or a value of the stranger's.
TOMLS: dict[str, tuple[str, list[str]]] = {
    "config key": ('[export]\n"{}" = 1', ["export", "--config", "f.toml"]),
    "config table": ('["{}"]\na = 1', ["export", "--config", "f.toml"]),
    "config value": ('[export]\nMODEL = "{}"', ["export", "--config", "f.toml"]),
    "config target": ('[export]\nMODEL = "small.pt"\ntarget = "{}"', ["export", "--config", "f.toml"]),
    "sweep key": ('"{}" = 1', ["sweep", "f.toml"]),
    "sweep target": ('checkpoints = ["small.pt"]\ntargets = ["{}"]', ["sweep", "f.toml"]),
    "sweep checkpoint": ('checkpoints = ["{}"]\ntargets = ["onnx"]', ["sweep", "f.toml"]),
    "sweep memory of 1e300": (f'{_SWEEP}memory = 1e300 # {{}}', ["sweep", "f.toml"]),
    "sweep memory of nan": (f'{_SWEEP}memory = nan # {{}}', ["sweep", "f.toml"]),
    "sweep memory of infinity": (f'{_SWEEP}memory = inf # {{}}', ["sweep", "f.toml"]),
    "sweep with a NUL": ('checkpoints = ["a\\u0000b"]\ntargets = ["onnx"] # {}', ["sweep", "f.toml"]),
    "sweep output with a NUL": (
        'checkpoints = ["small.pt"]\ntargets = ["onnx"]\noutput = "a\\u0000b" # {}', ["sweep", "f.toml"]
    ),
    "budget key": ('[budget]\n"{}" = 1', ["export", "small.pt", "--precision", "auto", "--budget", "f.toml"]),
    "budget size": ('[budget]\nsize = "{}"', ["export", "small.pt", "--precision", "auto", "--budget", "f.toml"]),
    "recipe key": ('"{}" = 1', ["export", "small.pt", "--recipe", "f.toml"]),
    "recipe target": (
        'schema = "ulsam-deploy.recipe/1"\nmodel = "x"\n[targets."{}"]\nprecision = "fp32"',
        ["export", "small.pt", "--recipe", "f.toml"],
    ),
    "preprocessing key": ('"{}" = 1', ["export", "small.pt", "--preprocessing", "f.toml"]),
    "preprocessing of nan": ("range = [nan, nan] # {}", ["export", "small.pt", "--preprocessing", "f.toml"]),
    "gate key": ('[[budget]]\n"{}" = 1', ["compare", "result.json", "result.json", "--budget", "f.toml"]),
    "config number of 400,000 bits": (f"[export]\nbatch = 0x{'f' * 100_000} # {{}}", ["export", "--config", "f.toml"]),
    "config name of 100,000 parts": (f"a{'.a' * 100_000} = 1 # {{}}", ["export", "--config", "f.toml"]),
    "no TOML": ("{}", ["export", "--config", "f.toml"]),
}  # fmt: skip


def inputs(stock: Path) -> Iterator[Input]:
    """Words in bundles and results, then typed ones, then those in files of a user."""
    yield from _of_bundles(stock)
    dense = make_bundle(stock / "typed.bundle", targets=("onnx",), width=16, batch=1).root
    for name, words in TYPED.items():
        yield Input("words that were typed", name, partial(_typed, dense, _elsewhere(words)), ANY - {0})
    for name, (text, words) in TOMLS.items():
        yield Input(
            "words of a user's file",
            name,
            partial(_toml, text, words if "output =" in text else _elsewhere(words)),
            ANY - {0},
        )
    table = json.loads(_made().to_json())
    for route in _texts(table):
        for words in RESULTS:
            make = partial(_result, table, route, words)
            yield Input("words of a result", f"{words[0]}: {_said(route)}", make, ANY, writes=True)
    for name in ("cut.pt", "noise.pt", "zip.pt"):
        yield Input("words of a checkpoint", f"its name, {name}", partial(_damaged, name), ANY - {0})
    for where in ("key", "metadata", "class_names"):
        yield Input("words of a checkpoint", where, partial(_keys, where), ANY)


def _of_bundles(stock: Path) -> Iterator[Input]:
    full = make_full(stock / "words.bundle").root
    plain = json.loads((full / MANIFEST).read_text())
    made: dict[str, tuple[list[str], Any]] = {}
    for number, route in enumerate(_texts(plain)):
        words = COMMANDS[number % 3]
        made[_said(route)] = words, partial(_bundle, full, route, words)
    dense = make_bundle(stock / "plain.bundle", targets=("onnx",), width=16, batch=1).root
    for words in COMMANDS:
        made |= {
            f"{words[0]}, {name}": (words, partial(_several, full, change, words)) for name, change in NAMES.items()
        }
        made[f"{words[0]}, probes"] = words, partial(_probes, dense, words)
        made[f"{words[0]}, many values"] = words, partial(_floods, full, words)
    for name, (words, make) in made.items():
        yield Input("words of a bundle", f"{words[0]}: {name}", make, ANY, writes=True)


def _texts(plain: Any) -> list[tuple[Any, ...]]:
    """Every place of ``plain`` that holds text."""
    found = []
    for route in routes(plain):
        here = plain
        for step in route:
            here = here[step]
        found += [route] if isinstance(here, str) else []
    return found


def _said(route: tuple[Any, ...]) -> str:
    return ".".join(map(str, route))


def _bundle(full: Path, route: tuple[Any, ...], words: list[str], folder: Path) -> list[str]:
    root = copied(full, folder)
    plain = json.loads((root / MANIFEST).read_text())
    (root / MANIFEST).write_text(json.dumps(changed(plain, route, EVIL)))
    return words


def _several(full: Path, change: Any, words: list[str], folder: Path) -> list[str]:
    root = copied(full, folder)
    plain = json.loads((root / MANIFEST).read_text())
    change(plain)
    (root / MANIFEST).write_text(json.dumps(plain))
    return words


def _keys_of(*route: Any) -> Any:
    def change(plain: Any) -> None:
        for step in route:
            plain = plain[step]
        plain[EVIL] = copy.deepcopy(next(iter(plain.values()), "1"))

    return change


def _both(part: str) -> Any:
    """A name that the model, each artifact and the golden set share, so that it is consistent."""

    def change(plain: Any) -> None:
        for holder in (plain["model"], *plain["artifacts"]):
            holder[part][0]["name"] = EVIL

    return change


NAMES = {
    "the model's name": lambda plain: plain["model"].update(name=EVIL),
    "the network's name": lambda plain: plain["model"].update(network=EVIL),
    "a precision": lambda plain: plain["artifacts"][0].update(precision=EVIL),
    "a target": lambda plain: plain["artifacts"][0].update(target=EVIL),
    "inputs": _both("inputs"),
    "outputs": _both("outputs"),
    "a key of the run's left out": _keys_of("run", "left_out"),
    "a key of the operators": _keys_of("artifacts", 0, "facts", "operators"),
    "a key of the lowerings": _keys_of("artifacts", 0, "facts", "lowerings"),
    "a key of the facts": _keys_of("artifacts", 0, "facts", "extra"),
    "a key of the engine's layers": _keys_of("artifacts", 0, "evidence", "engine", "layer_precisions"),
}


def _floods(full: Path, words: list[str], folder: Path) -> list[str]:
    """A block of 10,000 steps, and as many reasons."""
    root = copied(full, folder)
    plain = json.loads((root / MANIFEST).read_text())
    facts, evidence = plain["artifacts"][0]["facts"], plain["artifacts"][0]["evidence"]
    step = {**facts["block"][0], "sources": [-1]} if "sources" in facts["block"][0] else facts["block"][0]
    facts["block"] = [step] * 10_000
    evidence["reasons"] = evidence["reasons"] * 10_000
    (root / MANIFEST).write_text(json.dumps(plain))
    return words


def _probes(bundle: Path, words: list[str], folder: Path) -> list[str]:
    """Names of probes in the golden set."""
    import io

    import numpy as np

    root = copied(bundle, folder)
    arrays = read_arrays(root / "golden.npz")
    text = json.dumps(json.loads(arrays["meta"].tobytes())).replace("probe 1", json.dumps(EVIL)[1:-1])
    stream = io.BytesIO()
    write_arrays(stream, {**arrays, "meta": np.frombuffer(text.encode(), np.uint8)})
    resealed(root, "golden.npz", stream.getvalue())
    # A wrong output, so that the worst probe is named.
    model = (root / "onnx/model.onnx").read_bytes()
    resealed(root, "onnx/model.onnx", model[:200] + bytes(4) + model[204:])
    return words


def _typed(bundle: Path, words: list[str], folder: Path) -> list[str]:
    copied(bundle, folder)
    _small(folder / "small.pt")
    return words


def _elsewhere(words: list[str]) -> list[str]:
    """``words`` of an export or a sweep, whose output is where it may write."""
    return [*words, "-o", "../out/b"] if words[0] in ("export", "sweep") and "-o" not in words else words


def _small(path: Path) -> None:
    import torch

    path.write_bytes(known.saved({"weight": torch.zeros(2, 2)}))


def _toml(text: str, words: list[str], folder: Path) -> list[str]:
    _small(folder / "small.pt")
    (folder / "result.json").write_text(_made().to_json())
    (folder / "f.toml").write_text(text.replace("{}", json.dumps(EVIL)[1:-1].replace("\\u202e", "\\u202E")))
    return words


def _made() -> Any:
    return result(measured(noisy(2, 0), THROTTLED), measured(noisy(2, 1), target="tflite"))


def _result(table: Any, route: tuple[Any, ...], words: list[str], folder: Path) -> list[str]:
    (folder / "r.json").write_text(json.dumps(changed(table, route, EVIL)))
    return words


def _damaged(name: str, folder: Path) -> list[str]:
    import torch

    data = {
        "cut.pt": known.saved({"w": torch.zeros(9)})[:-70],
        "noise.pt": b"noise" * 99,
        "zip.pt": known.archive({EVIL: b""}),
    }
    path = folder / f"{NAME}{name}"
    path.write_bytes(data[name])
    return ["inspect", path.name]


def _keys(where: str, folder: Path) -> list[str]:
    import torch

    content: dict[str, Any] = {"state_dict": {"w": torch.zeros(2)}, "name": "x", "note": EVIL, "class_names": [EVIL]}
    if where == "key":
        content["state_dict"] = {EVIL: torch.zeros(2)}
    if where == "metadata":
        content[EVIL] = EVIL
    (folder / "m.pt").write_bytes(known.saved(content))
    return ["inspect", "m.pt"]
