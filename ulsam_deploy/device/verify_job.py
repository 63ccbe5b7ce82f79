"""The process in which one artifact of a bundle is opened, run and checked: the bundle may be a stranger's.

Run by :func:`ulsam_deploy.device.verify.verify_bundle`, in the folder of the job. Standard library, numpy and the
engine; device-safe. The job is ``job.json``; the answer is ``answer.json``: evidence, or an error in words.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ulsam_deploy.device import codec
from ulsam_deploy.device.bundle import read_bundle
from ulsam_deploy.device.errors import ExportError, UlsamError
from ulsam_deploy.device.parity import Golden
from ulsam_deploy.device.subprocesses import limit, told
from ulsam_deploy.device.verify import execute


def work(job: dict[str, Any]) -> dict[str, Any]:
    """The evidence of one artifact as plain data."""
    bundle = read_bundle(Path(job["bundle"]))
    record = bundle.artifact(job["target"], job["precision"])
    assert bundle.golden is not None
    golden = Golden.load(bundle.golden)
    found = execute(
        record.target, bundle.files(record), record.inputs, record.outputs, golden, precision=record.precision
    )
    return {"evidence": codec.encode(found, "evidence")}


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
