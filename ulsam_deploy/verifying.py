"""The process in which one artifact of a bundle is opened, run and checked: the bundle may be a stranger's.

Run by :func:`ulsam_deploy.evidence.verify_bundle`, in the folder of the job. Standard library, numpy and the engine;
device-safe. The job is ``job.json``; the answer is ``answer.json``: evidence, or an error in words.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ulsam_deploy.bundle import read_bundle, strict
from ulsam_deploy.errors import ExportError, UlsamError
from ulsam_deploy.evidence import execute
from ulsam_deploy.isolation import limit, told
from ulsam_deploy.parity import Golden


def work(job: dict[str, Any]) -> dict[str, Any]:
    """The evidence of one artifact as plain data."""
    bundle = read_bundle(Path(job["bundle"]))
    record = bundle.artifact(job["target"], job["precision"])
    assert bundle.golden is not None
    golden = Golden.load(bundle.golden)
    found = execute(
        record.target, bundle.files(record), record.inputs, record.outputs, golden, precision=record.precision
    )
    return {"evidence": strict.encode(found, "evidence")}


def main() -> None:
    """The job of the working directory, answered there; an error in words is an answer too."""
    job = json.loads(Path("job.json").read_text())
    limit(job["memory"])
    try:
        answer = work(job)
    except MemoryError:
        answer = {"error": told(ExportError("out of memory")), "memory": True}
    except UlsamError as error:
        answer = {"error": told(error)}
    Path("answer.json").write_text(json.dumps(answer))


if __name__ == "__main__":
    main()
