"""What a user can ask of an export, as one frozen value; the command line, the API and the cache key all use it.

Standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ulsam_deploy.contracts import Tier
from ulsam_deploy.errors import UsageError

#: How many probes an export checks on; rounded up to whole batches.
PROBES = 24


@dataclass(frozen=True)
class ExportOptions:
    """One export. ``batch`` ``None`` means dynamic; ``targets`` ``("all",)`` means every installed exporter.

    ``inputs`` are shapes without the batch, e.g. ``((3, 224, 224),)``; empty: what the checkpoint or network says.
    """

    model: Path
    targets: tuple[str, ...] = ("all",)
    output: Path | None = None
    arch: str | None = None
    factory: str | None = None
    variant: str | None = None
    inputs: tuple[tuple[int, ...], ...] = ()
    batch: int | None = 1
    precision: str = "fp32"
    probes: Path | None = None
    device: str = ""
    dla: bool = False
    require: Tier = Tier.EXPORTED
    trust_pickle: bool = False
    allow_globals: tuple[str, ...] = ()
    cache: bool = True

    @property
    def bundle(self) -> Path:
        """Where the bundle goes: ``--output``, or the model's name with ``.bundle`` beside it."""
        return self.output or self.model.with_name(self.model.name.removesuffix(self.model.suffix) + ".bundle")


def parse_shape(text: str) -> tuple[int, ...]:
    """``3x224x224`` as ``(3, 224, 224)``; raises :class:`UsageError`."""
    parts = text.lower().split("x")
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise UsageError(
            f"'{text}' is not an input shape", expected="positive sizes without the batch, such as 3x224x224"
        )
    return tuple(map(int, parts))


def parse_batch(text: str) -> int | None:
    """``4`` as 4 and ``dynamic`` as ``None``; raises :class:`UsageError`."""
    if text == "dynamic":
        return None
    if text.isdecimal() and int(text) > 0:
        return int(text)
    raise UsageError(f"'{text}' is not a batch size", expected="a positive number, or 'dynamic'")
