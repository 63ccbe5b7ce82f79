"""How long to measure: named profiles with a minimum time, a minimum count, and a number of fresh processes.

Standard library only; device-safe.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["PROFILES", "Profile"]


@dataclass(frozen=True)
class Profile:
    """``min_seconds`` and ``min_count`` hold for each artifact, over its ``rounds`` processes together.

    Every process runs the network ``warmup`` times and for ``warmup_seconds`` before its first sample. While power is
    read, the network runs ``energy_seconds`` more, and the machine idles as long.
    """

    name: str
    rounds: int
    warmup: int
    warmup_seconds: float
    min_seconds: float
    min_count: int
    energy_seconds: float


#: ``gate``: as many rounds as are needed to detect 5 % on a noisy shared machine (``benchmarks/gate_power.py``).
#: 64, 662 and 1,024 samples: enough for p90, for p99, and the number that MLPerf Mobile requires (with its 60 s).
PROFILES: Mapping[str, Profile] = {
    profile.name: profile
    for profile in (
        Profile("quick", 6, 3, 0.1, 1.0, 64, 2.0),
        Profile("gate", 48, 3, 0.1, 12.0, 3072, 2.0),
        Profile("default", 8, 5, 0.5, 10.0, 662, 5.0),
        Profile("mlperf-mobile", 8, 5, 2.0, 60.0, 1024, 10.0),
    )
}
