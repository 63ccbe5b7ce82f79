"""A pytest plug-in that lets one module be imported with one line of it changed: ``-p mutant``, ``MUTANT`` in JSON.

``{"file": "ulsam_deploy/device/parity/check.py", "old": "...", "new": "..."}``; nothing is written, not even bytecode.
"""

import json
import os
from importlib.machinery import SourceFileLoader
from pathlib import Path

MUTANT = json.loads(os.environ["MUTANT"])
PLACE = os.fspath(Path(__file__).parents[1] / MUTANT["file"])

_get_data, _path_stats = SourceFileLoader.get_data, SourceFileLoader.path_stats


def get_data(self, path):
    """The source, changed where it is the mutant's; more or less than one such place stops everything."""
    data = _get_data(self, path)
    if os.fspath(path) != PLACE:
        return data
    old, new = MUTANT["old"].encode(), MUTANT["new"].encode()
    if data.count(old) != 1:
        raise SystemExit(f"{MUTANT['file']} holds {MUTANT['old']!r} {data.count(old)} times, not once")
    return data.replace(old, new)


def path_stats(self, path):
    """No time of last change for the mutant, so that its bytecode is neither read nor written."""
    if os.fspath(path) == PLACE:
        raise OSError
    return _path_stats(self, path)


SourceFileLoader.get_data, SourceFileLoader.path_stats = get_data, path_stats
