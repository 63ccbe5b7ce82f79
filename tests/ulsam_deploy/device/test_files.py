"""A temporary folder goes, whenever a signal comes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

#: Sends a signal at each change of a file in turn; audit hooks cannot be taken off, so a child process each.
PROGRAM = """
import json, os, signal, sys, tempfile
from pathlib import Path
from ulsam_deploy.device.files import scratch

place = Path(tempfile.gettempdir())
changes = ("os.mkdir", "os.rmdir", "os.remove", "os.unlink", "open", "os.chmod", "os.scandir", "shutil.rmtree")

def run(moment):
    count = 0
    def hook(event, arguments):
        nonlocal count
        if event in changes:
            count += 1
            if count == moment:
                os.kill(os.getpid(), signal.SIGINT)
    sys.addaudithook(hook)
    with scratch() as folder:
        (folder / "deep").mkdir()
        (folder / "deep" / "file").write_text("x")
    return count

left, ended = [], 0
for moment in range(1, 60):
    child = os.fork()
    if child == 0:
        try:
            os._exit(1 if run(moment) < moment else 0)
        except KeyboardInterrupt:
            os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    left += [[moment, path.name] for path in place.iterdir()]
    for path in place.iterdir():
        os.system(f"rm -r {path}")
    if code == 1:
        break
    ended += 1
print(json.dumps([ended, left]))
"""


def test_a_signal_at_any_change_leaves_nothing(tmp_path: Path) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True)
    ended, left = json.loads(done.stdout)
    assert ended > 8
    assert left == []
