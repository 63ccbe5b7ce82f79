"""What a user can ask of an export, as one frozen value; the command line, the API and the cache key all use it.

Standard library only; numpy where pictures are read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ulsam_deploy.budget import Budget
from ulsam_deploy.contracts import Tier
from ulsam_deploy.errors import UsageError
from ulsam_deploy.preprocessing import Preprocessing

#: How many probes an export checks on; rounded up to whole batches.
PROBES = 24
#: What an artifact can be made in. ``int8-dynamic``: weights in int8, ranges of everything else found while it runs.
PRECISIONS = ("fp32", "fp16", "int8", "int8-dynamic")
#: Whichever of them is fastest within the budget: see :mod:`ulsam_deploy.search`.
AUTO = "auto"
#: Those that take ranges from real inputs, and what to do without any.
CALIBRATED = ("int8",)
QUANTIZED = ("int8", "int8-dynamic")
NO_CALIBRATION = (
    "give some hundred inputs like the real ones with --calibration FILE.npz|DIR; "
    "'--precision int8-dynamic' (tflite) needs none"
)


@dataclass(frozen=True)
class Recipe:
    """How one artifact is made: in which precision, and which modules stay in floating point.

    ``lowerings``: pairs of a block's geometry and the name of the lowering that it gets; fp32 only.
    """

    precision: str = "fp32"
    keep: tuple[str, ...] = ()
    lowerings: tuple[tuple[str, str], ...] = ()


#: How far the evidence of an export can go, which runs artifacts here and nowhere else.
REACHABLE = (Tier.EXPORTED, Tier.PARSED, Tier.COMPILED, Tier.EXECUTED)


@dataclass(frozen=True)
class ExportOptions:
    """One export. ``batch`` ``None`` means dynamic; ``targets`` ``("all",)`` means every installed exporter.

    ``inputs`` are shapes without the batch, e.g. ``((3, 224, 224),)``; empty: what the checkpoint or network says.
    ``precisions``: an artifact for each, of every target. ``keep``: module paths that int8 leaves in floating point.
    ``recipes``: by target, instead of both. ``budget`` and ``data``, labelled samples, are what ``auto`` keeps to.
    ``tune``: time the lowerings of each block, and take the fastest.
    """

    model: Path
    targets: tuple[str, ...] = ("all",)
    output: Path | None = None
    arch: str | None = None
    factory: str | None = None
    variant: str | None = None
    inputs: tuple[tuple[int, ...], ...] = ()
    batch: int | None = 1
    precisions: tuple[str, ...] = ("fp32",)
    calibration: Path | None = None
    keep: tuple[str, ...] = ()
    recipes: Mapping[str, Recipe] = field(default_factory=dict)
    budget: Budget = field(default_factory=Budget)
    data: Path | None = None
    tune: bool = False
    preprocessing: Preprocessing | None = None
    probes: Path | None = None
    device: str = ""
    dla: bool = False
    require: Tier = Tier.EXPORTED
    trust_pickle: bool = False
    allow_globals: tuple[str, ...] = ()
    cache: bool = True

    @property
    def judged(self) -> tuple[str, ...]:
        """Every precision that an artifact may come to be made in."""
        if self.recipes:
            return tuple(dict.fromkeys(recipe.precision for recipe in self.recipes.values()))
        every = [PRECISIONS if precision == AUTO else (precision,) for precision in self.precisions]
        return tuple(dict.fromkeys(precision for some in every for precision in some))

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


def parse_precisions(text: str) -> tuple[str, ...]:
    """``fp32,int8`` as ``("fp32", "int8")``; raises :class:`UsageError`."""
    words = tuple(dict.fromkeys(text.split(",")))
    for word in words:
        if word not in (*PRECISIONS, AUTO):
            raise UsageError(f"no precision is called '{word}'", expected=", ".join([*PRECISIONS, AUTO]))
    return words


def parse_batch(text: str) -> int | None:
    """``4`` as 4 and ``dynamic`` as ``None``; raises :class:`UsageError`."""
    if text == "dynamic":
        return None
    if text.isdecimal() and int(text) > 0:
        return int(text)
    raise UsageError(f"'{text}' is not a batch size", expected="a positive number, or 'dynamic'")
