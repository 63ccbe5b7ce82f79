"""The contents of ``manifest.json``: the only description of a bundle, which also defines its exact list of members.

Standard library and numpy only; device-safe. Everything outside ``run`` is determined by checkpoint, options and tools;
times, host facts and whatever else differs between two equal exports belong in ``run``.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ulsam_deploy.device import codec
from ulsam_deploy.device.errors import RefusedError
from ulsam_deploy.device.findings import (
    Agreement,
    ArtifactFacts,
    EngineFacts,
    InterpreterRun,
    Latency,
    PlainRun,
    Reason,
    Replay,
    Report,
    Scalar,
    Verdict,
)
from ulsam_deploy.device.preprocessing import Preprocessing
from ulsam_deploy.device.types import Block, EvidenceLevel, Refusal, TensorSpec

__all__ = [
    "MANIFEST",
    "SCHEMA",
    "SIGNATURE",
    "ArtifactRecord",
    "ConfigValue",
    "Evidence",
    "FileRecord",
    "Manifest",
    "ModelCard",
    "RunFacts",
    "json_schema",
]

MANIFEST = "manifest.json"
#: The only member that no manifest lists, because it signs it. See :mod:`ulsam_deploy.device.bundle.signature`.
SIGNATURE = "model.sig"
SCHEMA = "ulsam-deploy.bundle/5"
#: The version before, which is read as well.
_EARLIER = "ulsam-deploy.bundle/4"
#: The ``$id`` of the published schema: a name, not an address that anything fetches.
SCHEMA_ID = "urn:ulsam-deploy:bundle:2"
_ANY_VERSION = re.compile(r"ulsam-deploy\.bundle/\d{1,6}")

# Names that mean the same file on every system and in every archive: no '..', no leading dot, drive or backslash.
_SEGMENT = "[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}"
MEMBER_NAME = f"{_SEGMENT}(?:/{_SEGMENT}){{0,7}}"
#: Windows opens a device under these names, whatever follows the first dot, and drops a dot at the end of a name.
_RESERVED = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\..*)?|.*\.", re.IGNORECASE)
_NAME_WORDS = "a relative path of letters, digits, '_', '-' and '.', with '/' between its parts"
_SHA256 = {"pattern": "[0-9a-f]{64}", "words": "a SHA-256 in 64 small hexadecimal digits"}

#: A value in a network's configuration: a scalar, or a list of them, nested at most three deep.
ConfigValue = Scalar | tuple[Scalar | tuple[Scalar | tuple[Scalar | None, ...] | None, ...] | None, ...] | None


def config_value(value: object, depth: int = 3) -> ConfigValue:
    """Convert one value of a network's configuration to its form in a manifest.

    Args:
        value: A JSON value.
        depth: How deep lists may still be nested.

    Returns:
        The value with lists as tuples; anything that is neither a list nor a scalar, or nested deeper, as JSON text.
    """
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    if isinstance(value, (list, tuple)) and depth:
        return tuple(config_value(item, depth - 1) for item in value)  # type: ignore[misc] # less deep than depth says
    return json.dumps(value, sort_keys=True, default=str)


@dataclass(frozen=True)
class FileRecord:
    """One member: its path inside the bundle (``onnx/model.onnx``), SHA-256 and size in bytes."""

    path: str = field(metadata={"pattern": MEMBER_NAME, "words": _NAME_WORDS})
    sha256: str = field(metadata=_SHA256)
    size: int = field(metadata={"minimum": 0})

    def __post_init__(self) -> None:
        if reserved := next(filter(_RESERVED.fullmatch, self.path.split("/")), None):
            raise ValueError(f"{reserved!a} is no file name on Windows, and a bundle is the same on every system")


@dataclass(frozen=True)
class Evidence:
    """What was shown about an artifact: its evidence level, what the checks concluded, and what they measured.

    ``parity``, ``latency`` and ``engine`` (the runtime's ``facts()``) are ``None`` if nothing was executed; ``replay``
    also if the engine shows no inner values, or it was left out. ``agreement`` with PyTorch is ``None`` without real
    inputs, ``plain`` where the engine's defaults compute in the artifact's own precision. ``interpreters``:
    the target's other engines, each with what it made of the same files, or why it did not run.
    """

    level: EvidenceLevel
    verdict: Verdict = Verdict.UNVERIFIED
    reasons: tuple[Reason, ...] = ()
    parity: Report | None = None
    latency: Latency | None = None
    engine: EngineFacts | None = None
    replay: Replay | None = None
    agreement: Agreement | None = None
    plain: PlainRun | None = None
    interpreters: tuple[InterpreterRun, ...] = ()


@dataclass(frozen=True)
class ArtifactRecord:
    """One artifact as shipped; the runtime opens ``files[0]``.

    ``precision`` is the requested precision, ``effective_precision`` the one that the engine was observed to compute in
    (the requested one if the engine doesn't report it).
    """

    target: str
    precision: str
    effective_precision: str
    files: tuple[FileRecord, ...]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    toolchain: Mapping[str, str]
    facts: ArtifactFacts
    evidence: Evidence


@dataclass(frozen=True)
class ModelCard:
    """The exported model. ``sha256`` is the checkpoint file's; ``parameters`` is the number of trained parameters.

    For a network that was in memory: the name of its class, and SHA-256 of its weights.

    ``preprocessing``: from pictures to its input; ``None`` if it was not stated.
    """

    name: str
    sha256: str = field(metadata=_SHA256)
    network: str
    config: Mapping[str, ConfigValue]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    blocks: tuple[Block, ...]
    refusals: tuple[Refusal, ...]
    parameters: int = field(metadata={"minimum": 0})
    preprocessing: Preprocessing | None = None


@dataclass(frozen=True)
class RunFacts:
    """What depends on the machine, or was left out: the only part that may differ between equal exports.

    ``version`` is ulsam-deploy's. ``left_out``: for each requested artifact that is missing, the reason as text.
    """

    version: str = ""
    python: str = ""
    machine: str = ""
    system: str = ""
    left_out: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Manifest:
    """A whole bundle. ``extras`` are members that belong to no artifact (``report.html``, a bill of materials)."""

    model: ModelCard
    artifacts: tuple[ArtifactRecord, ...] = field(metadata={"longest": 100})
    golden: FileRecord | None = None
    extras: tuple[FileRecord, ...] = ()
    run: RunFacts = field(default_factory=RunFacts)
    schema: str = field(
        default=SCHEMA,
        metadata={"pattern": re.escape(SCHEMA), "words": f"{SCHEMA} (another version wants another ulsam-deploy)"},
    )

    def members(self) -> Iterator[FileRecord]:
        """Every file of the bundle except the manifest itself."""
        for artifact in self.artifacts:
            yield from artifact.files
        if self.golden is not None:
            yield self.golden
        yield from self.extras

    def to_json(self) -> str:
        """Encode the manifest as deterministic JSON.

        Raises :class:`ExportError` with the JSON path of a value that JSON can't represent.
        """
        return codec.dumps(codec.encode(self, MANIFEST))

    @classmethod
    def from_json(cls, data: bytes | str) -> Manifest:
        """Read :meth:`to_json`'s text; raises :class:`RefusedError` naming what is unknown, missing or mistyped."""
        raw = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
        plain = codec.loads(raw, MANIFEST)
        _check_version(plain)
        manifest = codec.decode(cls, _renewed(plain), MANIFEST)
        _check_members(manifest)
        return manifest


def json_schema() -> dict[str, Any]:
    """The JSON Schema of ``manifest.json``, published as ``docs/bundle.schema.json``."""
    return codec.schema(Manifest, SCHEMA_ID)


def _check_version(plain: object) -> None:
    """Refuse a bundle of another version by name: errors about unknown or missing keys would only mislead."""
    found = plain.get("schema") if isinstance(plain, dict) else None
    if isinstance(found, str) and found not in (SCHEMA, _EARLIER) and _ANY_VERSION.fullmatch(found):
        raise RefusedError(
            f"{MANIFEST} is of another version of the format: {found}",
            expected=SCHEMA,
            todo="make a new bundle from the checkpoint: ulsam-deploy export MODEL --output NEW.bundle",
        )


def _renewed(plain: Any) -> Any:
    """A manifest of the version before in the form of this one, in which evidence and reports have more sections.

    What is not even of that form is left as it is: the decoder says what is wrong with it.
    """
    if not isinstance(plain, dict) or plain.get("schema") != _EARLIER or not isinstance(plain.get("artifacts"), list):
        return plain
    for number, artifact in enumerate(plain["artifacts"]):
        evidence = artifact.get("evidence") if isinstance(artifact, dict) else None
        if isinstance(evidence, dict) and evidence.setdefault("interpreters", []):
            where = f"$.artifacts[{number}].evidence"
            raise RefusedError(f"{MANIFEST}: at {where}: {_EARLIER} has no key 'interpreters'", expected=SCHEMA)
    for where, report in _reports(plain["artifacts"]):
        if report.setdefault("gates", []):
            raise RefusedError(f"{MANIFEST}: at {where}: {_EARLIER} has no key 'gates'", expected=SCHEMA)
    return {**plain, "schema": SCHEMA}


def _reports(artifacts: list[Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every parity report in ``artifacts`` as read from JSON, with its place."""
    for number, artifact in enumerate(artifacts):
        evidence, study = _at(artifact, "evidence"), _at(_at(artifact, "facts"), "study")
        found = {"evidence.parity": _at(evidence, "parity"), "facts.study.parsed": _at(study, "parsed")}
        models = _at(study, "models")
        found |= {f"facts.study.models.{name}": _at(models, name) for name in models}
        yield from ((f"$.artifacts[{number}].{place}", report) for place, report in found.items() if report)


def _at(value: Any, key: str) -> dict[str, Any]:
    """The object under ``key``; empty if ``value`` has none."""
    inner = value.get(key) if isinstance(value, dict) else None
    return inner if isinstance(inner, dict) else {}


def _check_members(manifest: Manifest) -> None:
    """Refuse a list of members that no folder can hold, or that lists two artifacts of the same kind."""
    kinds = [(artifact.target, artifact.precision) for artifact in manifest.artifacts]
    for artifact, kind in zip(manifest.artifacts, kinds):
        if not artifact.files:
            raise RefusedError(f"{MANIFEST}: the {artifact.target!a} artifact has no files", expected="at least one")
        if kinds.count(kind) > 1:
            raise RefusedError(f"{MANIFEST}: two artifacts for target {kind[0]!a} in precision {kind[1]!a}")
    # Case is ignored, because a bundle must also fit on a file system that ignores it.
    taken = {MANIFEST, SIGNATURE}
    folders: set[str] = set()
    for record in manifest.members():
        name = record.path.lower()
        parents = {name[:index] for index, letter in enumerate(name) if letter == "/"}
        if name in taken or name in folders or parents & taken:
            raise RefusedError(
                f"{MANIFEST}: the member {record.path!a} is listed twice, is a folder and a file, or has a "
                "reserved name"
            )
        taken.add(name)
        folders |= parents
