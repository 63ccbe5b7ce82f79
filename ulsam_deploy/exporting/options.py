"""The options of an export as one frozen value, used by the command line, the API and the cache key.

Standard library only; numpy where images are read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ulsam_deploy.device.errors import UsageError
from ulsam_deploy.device.findings import ReplayDepth
from ulsam_deploy.device.precisions import AUTO, PRECISIONS, SEARCHED
from ulsam_deploy.device.preprocessing import Preprocessing
from ulsam_deploy.device.types import EvidenceLevel
from ulsam_deploy.exporting.budget import Budget
from ulsam_deploy.load.options import LoadOptions


@dataclass(frozen=True)
class Recipe:
    """How one artifact is made: in which precision, and which modules stay in floating point.

    Attributes:
        precision: The precision, such as ``fp32``.
        keep: Paths of the modules that stay in floating point.
        lowerings: Pairs of a block's geometry and the name of its lowering; fp32 only.
    """

    precision: str = "fp32"
    keep: tuple[str, ...] = ()
    lowerings: tuple[tuple[str, str], ...] = ()


#: The evidence levels that an export can reach: it runs artifacts on this machine only.
REACHABLE = (EvidenceLevel.EXPORTED, EvidenceLevel.PARSED, EvidenceLevel.COMPILED, EvidenceLevel.EXECUTED)


@dataclass(frozen=True, kw_only=True)
class ExportOptions(LoadOptions):
    """The options of one export.

    Attributes:
        targets: Names of targets; ``("all",)`` means every installed exporter.
        output: Where the bundle is written; ``None``: beside the model.
        precisions: Every target gets an artifact in each of them.
        calibration: Real inputs that int8 takes its ranges from.
        keep: Paths of modules that int8 leaves in floating point.
        recipes: By target, instead of ``precisions`` and ``keep``.
        budget: What artifacts may lose on real inputs, and the limits that ``auto`` keeps to.
        data: Labelled samples, on which ``auto`` measures the drop in accuracy.
        tune: Time the lowerings of each block and take the fastest.
        preprocessing: How images become inputs.
        probes: The user's own probes, in addition to the built-in ones.
        device: The name of a device profile, or empty.
        dla: Export for the deep learning accelerator of ``device``.
        require: The evidence level that every artifact must reach.
        replay: On how many batches every module is checked by itself inside each artifact.
        watch: Which attention gates are watched: ``("auto",)``, ``("all",)``, ``("none",)``, or module paths.
        cache: Whether results may be cached and reused.

    Raises:
        UsageError: A field has a value that it cannot have.
    """

    targets: tuple[str, ...] = ("all",)
    output: Path | None = None
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
    require: EvidenceLevel = EvidenceLevel.EXPORTED
    replay: ReplayDepth = ReplayDepth.FAST
    watch: tuple[str, ...] = ("auto",)
    cache: bool = True

    def __post_init__(self) -> None:
        for name, (expected, fits) in _FIELDS.items():
            value = getattr(self, name)
            if not fits(value):
                raise UsageError(f"{name} is {value!r:.200}", expected=expected)

    @property
    def judged(self) -> tuple[str, ...]:
        """Every precision that an artifact may be made in; ``auto`` may choose any."""
        if self.recipes:
            return tuple(dict.fromkeys(recipe.precision for recipe in self.recipes.values()))
        every = [SEARCHED if precision == AUTO else (precision,) for precision in self.precisions]
        return tuple(dict.fromkeys(precision for some in every for precision in some))

    @property
    def bundle(self) -> Path:
        """Where the bundle is written: ``--output``, or beside the model under its name with ``.bundle``.

        Raises:
            UsageError: The model is a folder without a name of its own, such as ``/``.
        """
        if self.output is None and not self.model.name:
            raise UsageError(
                f"'{self.model}' has no name to call the bundle by",
                expected="a checkpoint file",
                todo="name the file, or say with --output where the bundle goes",
            )
        return self.output or self.model.with_name(self.model.name.removesuffix(self.model.suffix) + ".bundle")


def _size(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _optional(kind: type[object]) -> Callable[[object], bool]:
    return lambda value: value is None or isinstance(value, kind)


def _flag(value: object) -> bool:
    return isinstance(value, bool)


def _texts(value: object) -> bool:
    return isinstance(value, tuple) and all(isinstance(one, str) for one in value)


def _shapes(value: object) -> bool:
    return isinstance(value, tuple) and all(
        isinstance(shape, tuple) and bool(shape) and all(map(_size, shape)) for shape in value
    )


def _watch(value: object) -> bool:
    """Whether module paths are not mixed with the words for all of them."""
    return _texts(value) and bool(value) and (len(value) == 1 or not {"auto", "all", "none"} & {*value})  # type: ignore


def _precisions(value: object) -> bool:
    return _texts(value) and bool(value) and set(value) <= {*PRECISIONS, AUTO}  # type: ignore[call-overload]


def _recipes(value: object) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(name, str) and isinstance(recipe, Recipe) for name, recipe in value.items()
    )


#: What each field of :class:`ExportOptions` may hold, as text and as a test: Python callers may pass anything.
_FIELDS: Mapping[str, tuple[str, Callable[[object], bool]]] = {
    "model": ("a pathlib.Path", lambda value: isinstance(value, Path)),
    "targets": ("a tuple of names, at least one", lambda value: _texts(value) and bool(value)),
    **dict.fromkeys(("output", "calibration", "data", "probes"), ("a pathlib.Path, or None", _optional(Path))),
    **dict.fromkeys(("arch", "factory", "variant", "weights"), ("a str, or None", _optional(str))),
    "inputs": ("a tuple of shapes without the batch, such as ((3, 224, 224),)", _shapes),
    "batch": ("an integer of at least 1, or None for a dynamic batch", lambda value: value is None or _size(value)),
    "precisions": (f"a tuple of any of {', '.join([*PRECISIONS, AUTO])}", _precisions),
    "keep": ("a tuple of module paths", _texts),
    "watch": ("auto, all or none, or module paths, in a tuple", _watch),
    "recipes": ("a mapping of targets to Recipe", _recipes),
    "budget": ("a Budget", lambda value: isinstance(value, Budget)),
    "preprocessing": ("a Preprocessing, or None", _optional(Preprocessing)),
    "device": ("the name of a device profile, or an empty string", lambda value: isinstance(value, str)),
    "require": ("an EvidenceLevel", lambda value: isinstance(value, EvidenceLevel)),
    "allow_globals": ("a tuple of names", _texts),
    "replay": ("a ReplayDepth", lambda value: isinstance(value, ReplayDepth)),
    **dict.fromkeys(("tune", "dla", "trust_pickle", "cache"), ("True or False", _flag)),
}


def parse_batch(text: str) -> int | None:
    """Parse a batch size: ``4`` gives 4, ``dynamic`` gives ``None``; raises :class:`UsageError` for anything else."""
    if text.lower() == "dynamic":
        return None
    if text.isdecimal() and int(text) > 0:
        return int(text)
    raise UsageError(f"'{text}' is not a batch size", expected="a positive number, or 'dynamic'")
