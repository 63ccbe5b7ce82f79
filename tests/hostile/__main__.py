"""Lets every hostile input loose and prints what came of it: ``python -m tests.hostile`` (``make hostile``)."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from ulsam_deploy.device.errors import Exit

from . import page
from .inputs import Input, corpus
from .watch import Seen, meet


def main(argv: Sequence[str] | None = None) -> int:
    """Print a table by kind and the totals; 1 when anything was as it should not be."""
    parser = argparse.ArgumentParser(prog="python -m tests.hostile", description=__doc__)
    parser.add_argument("--every", type=int, default=1, metavar="N", help="every N-th input of each kind only")
    parser.add_argument("--kind", action="append", help="these kinds only; may be repeated")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of the table")
    parser.add_argument("--write", action="store_true", help=f"put these kinds into the table of {page.PAGE.name}")
    parser.add_argument("--planted", action="store_true", help="inputs that do harm, to see that it is seen")
    arguments = parser.parse_args(argv)
    warnings.simplefilter("ignore")
    import_everything()
    with tempfile.TemporaryDirectory(prefix="hostile-") as name:
        folder = Path(name)
        stock = folder / "stock"
        stock.mkdir()
        known = list(_planted() if arguments.planted else corpus(stock))
        counts, inputs = Counter(one.kind for one in known), _chosen(known, arguments.every, arguments.kind)
        seen: list[Seen] = []
        for number, one in enumerate(inputs):
            if arguments.write and seen and one.kind != seen[-1].input.kind:  # the whole takes an hour
                page.write(seen, counts)
            seen.append(meet(one, folder / str(number)))
            for problem in seen[-1].problems:
                sys.stderr.write(f"{one.kind}: {one.name}: {problem}\n{_indented(seen[-1].said)}\n")
    if arguments.write:
        page.write(seen, counts)
    print(json.dumps(_document(seen)) if arguments.json else _table(seen))
    return int(any(one.problems for one in seen))


def _chosen(inputs: Iterable[Input], every: int, kinds: Sequence[str] | None) -> list[Input]:
    count: Counter[str] = Counter()
    chosen = []
    for one in inputs:
        if kinds is None or one.kind in kinds:
            if count[one.kind] % every == 0:
                chosen.append(one)
            count[one.kind] += 1
    return chosen


def import_everything() -> None:
    """What the commands import, so that each fork finds it there; not the engines, which run elsewhere."""
    import matplotlib.font_manager  # noqa: F401 - which lists the system's fonts when it is first imported
    import numpy  # noqa: F401
    import onnx  # noqa: F401
    import torch

    import ulsam_deploy.against
    import ulsam_deploy.cli.export
    import ulsam_deploy.cli.inspect
    import ulsam_deploy.cli.pack
    import ulsam_deploy.cli.verify
    import ulsam_deploy.exporting.pipeline
    import ulsam_deploy.graph
    import ulsam_deploy.load.checkpoint
    import ulsam_deploy.load.onnx
    import ulsam_deploy.report.subject  # noqa: F401

    torch.set_num_threads(1)


def _planted() -> list[Input]:
    """What the watch has to see: code that runs, files that escape, a crash, a success, an end without words."""
    from ..ulsam_deploy.load import test_checkpoint_hostile as known

    def trusted(program: str) -> Input:
        def make(folder: Path) -> list[str]:
            (folder / "model.pt").write_bytes(known.with_pickle(known.PROGRAMS[program]))
            return ["export", "model.pt", "--target", "onnx", "--trust-pickle", "--no-cache"]

        return Input("planted", f"trusted {program}", make)

    def told(folder: Path) -> list[str]:
        return ["doctor", "--json"]

    def crash(folder: Path) -> list[str]:
        (folder / "model.pt").write_bytes(known.with_pickle(known.pickled(known.Calls(_die))))
        return ["export", "model.pt", "--trust-pickle", "--no-cache"]

    def wordless(folder: Path) -> list[str]:
        (folder / "model.pt").write_bytes(known.with_pickle(known.pickled(known.Calls(_leave, 6))))
        return ["export", "model.pt", "--trust-pickle", "--no-cache"]

    return [
        trusted("os.system"), trusted("exec"), Input("planted", "a success", told), Input("planted", "a crash", crash),
        Input("planted", "no words", wordless),
    ]  # fmt: skip


def _die() -> None:
    import os
    import signal

    os.kill(os.getpid(), signal.SIGSEGV)


def _leave(code: int) -> None:
    import os

    os._exit(code)


def _totals(seen: Sequence[Seen]) -> dict[str, int]:
    return {
        "inputs tried": len(seen),
        "refused": sum(one.code == Exit.REFUSED for one in seen),
        "called broken": sum(one.code == Exit.EXPORT_FAILED for one in seen),
        "failed a check": sum(one.code == Exit.CHECK_FAILED for one in seen),
        "misused": sum(one.code == Exit.USAGE for one in seen),
        "not available": sum(one.code == Exit.UNAVAILABLE for one in seen),
        "harmless": sum(one.code in (0, 5) and not one.problems for one in seen),
        "engine crashes contained": sum("crashed (signal" in one.said for one in seen),
        "crashes": sum(one.crashed for one in seen),
        "files escaped": sum(len(one.escaped) for one in seen),
        "code run": sum(bool(one.ran) for one in seen),
        "wrong exit code": sum(one.code not in one.input.codes and not one.crashed for one in seen),
        "no sentence": sum(not one.sentence for one in seen),
    }


def _document(seen: Sequence[Seen]) -> dict[str, object]:
    return {
        **_totals(seen),
        "problems": {f"{one.input.kind}: {one.input.name}": one.problems for one in seen if one.problems},
    }


def _table(seen: Sequence[Seen]) -> str:
    kinds = list(dict.fromkeys(one.input.kind for one in seen))
    rows = [_totals([one for one in seen if one.input.kind == kind]) for kind in kinds]
    columns = [name for name in _totals([]) if name != "inputs tried"]
    width = max(map(len, kinds), default=0)
    lines = [f"{'':{width}}  tried  " + "  ".join(columns)]
    lines += [
        f"{kind:{width}}  {row['inputs tried']:5}  " + "  ".join(f"{row[name]:{len(name)}}" for name in columns)
        for kind, row in zip(kinds, rows)
    ]
    total = ", ".join(f"{name} {value}" for name, value in _totals(seen).items())
    return "\n".join([*lines, "", total, f"in {sum(one.seconds for one in seen):.0f} seconds"])


def _indented(text: str) -> str:
    return "".join(f"    {line}\n" for line in text.splitlines()[-12:])


if __name__ == "__main__":
    sys.exit(main())
