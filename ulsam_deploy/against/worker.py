"""The process in which a file of unknown origin is opened: it limits itself, does one job, and leaves numbers.

Run by :mod:`ulsam_deploy.against.guard` as ``python -m``, in the folder of the job. Standard library, numpy and the
engine; device-safe. The job is ``job.json`` and ``feed.npz``; the answer is ``answer.json`` and ``arrays.npz``, arrays
by number. Where it says ``without``, the file's twin without these softmaxes is made and opened instead: only then are
the packages that its exporter needs, too.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ulsam_deploy.device import codec, plugins
from ulsam_deploy.device.arrays import Array
from ulsam_deploy.device.errors import ExportError, UlsamError, UnavailableError
from ulsam_deploy.device.npz import read_arrays, write_arrays
from ulsam_deploy.device.runtime import Runtime
from ulsam_deploy.device.subprocesses import limit, told
from ulsam_deploy.device.types import TensorSpec
from ulsam_deploy.device.verify import produce
from ulsam_deploy.graph.interfaces import Exporter


def work(job: dict[str, Any], feed: dict[str, Array]) -> tuple[dict[str, Any], dict[str, Array]]:
    """Do one job: its facts, and the arrays that came out of it by name."""
    engine: type[Runtime] = plugins.load(plugins.RUNTIMES, job["engine"])
    files = engine.files_of(Path(job["path"]))
    if job["action"] == "softmaxes":
        return {"softmaxes": _exporter(engine).softmaxes(files[0])}, {}
    if job["without"]:
        files = _twin(engine, files, range(*job["without"]))
    inputs, outputs = (tuple(_spec(plain) for plain in job[kind]) for kind in ("inputs", "outputs"))
    with engine(files, inputs, outputs) as runtime:
        if job["action"] == "open":
            found = runtime.ports()
            ports = {kind: [asdict(spec) for spec in specs] for kind, specs in zip(("inputs", "outputs"), found)}
            return {**ports, "files": [str(file) for file in files]}, {}
        if job["action"] == "values":
            return {}, _values(runtime, feed, job["size"])
        return {"facts": codec.encode(runtime.facts(), "what the engine tells")}, produce(runtime, feed)


def _values(runtime: Runtime, feed: dict[str, Array], size: int) -> dict[str, Array]:
    """Every value, by the number of its batch and its name: ``0/conv``."""
    starts = range(0, len(next(iter(feed.values()))), size)
    found = (runtime.values({name: array[start : start + size] for name, array in feed.items()}) for start in starts)
    return {f"{number}/{name}": array for number, values in enumerate(found) for name, array in values.items()}


def _exporter(engine: type[Runtime]) -> Exporter:
    found: Exporter = plugins.load(plugins.EXPORTERS, engine.target)
    return found


def _twin(engine: type[Runtime], files: Sequence[Path], softmaxes: range) -> tuple[Path, ...]:
    """The files, in this folder, of the twin without ``softmaxes``."""
    into = Path("twin")
    into.mkdir()
    if not _exporter(engine).silence(files[0], softmaxes, into):
        raise UnavailableError("no twin can be made of this file")
    return tuple(engine.files_of(into / files[0].name))


def _spec(plain: dict[str, Any]) -> TensorSpec:
    return TensorSpec(**{**plain, "shape": tuple(plain["shape"])})


def main() -> None:
    """The job of the working directory, answered there; an error in words is an answer too."""
    job = json.loads(Path("job.json").read_text())
    limit(job["memory"])
    try:
        file = read_arrays(Path("feed.npz"), own=True)
        feed = {name: file[f"{index}"] for index, name in enumerate(job["feed"])}
        facts, arrays = work(job, feed)
    except MemoryError:
        error = ExportError("out of memory")
        facts, arrays = {"error": told(error), "memory": True}, {}
    except UlsamError as error:
        facts, arrays = {"error": told(error)}, {}
    write_arrays(Path("arrays.npz"), {f"{index}": array for index, array in enumerate(arrays.values())})
    Path("answer.json").write_text(json.dumps({**facts, "arrays": list(arrays)}))


if __name__ == "__main__":
    main()
