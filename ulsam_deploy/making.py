"""One artifact: lowered, exported, run in its engine, and judged; in low precision by its own twins as well."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ulsam_deploy.bundle import Evidence
from ulsam_deploy.bundle.staging import scratch
from ulsam_deploy.contracts import Artifact, Exporter, ExportRequest, Verdict
from ulsam_deploy.errors import UlsamError, UnavailableError
from ulsam_deploy.evidence import execute, produce, runtime_for
from ulsam_deploy.parity import Golden
from ulsam_deploy.parity.sketch import compact

if TYPE_CHECKING:
    from ulsam_deploy.road import Road

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Recipe:
    """How one artifact is made: in which precision, and which modules stay in floating point."""

    precision: str = "fp32"
    keep: tuple[str, ...] = ()


@dataclass(frozen=True)
class Made:
    """One artifact with its evidence.

    ``silenced``: what its twins gave, each without one block's attention: float32 (B, P, K) by output; empty where
    there are none.
    """

    artifact: Artifact
    evidence: Evidence
    silenced: Mapping[str, Array] = field(default_factory=dict)


def make(road: Road, exporter: Exporter, recipe: Recipe, folder: Path) -> Made:
    """The artifact of ``exporter`` by ``recipe``, in the empty ``folder``, with what running it here showed."""
    artifact = _export(road, exporter, recipe, folder)
    try:
        evidence, silenced = _executed(road, exporter, artifact, folder)
        return Made(artifact, evidence, silenced)
    except UnavailableError as error:
        evidence = Evidence(artifact.tier, reasons=(f"Not run here: {error.found}.",))
        if study := exporter.study(artifact, folder, road.golden):
            artifact = dataclasses.replace(artifact, facts={**artifact.facts, "study": study.facts})
            reasons = evidence.reasons + study.reasons
            evidence = dataclasses.replace(evidence, verdict=study.verdict, reasons=reasons)
        return Made(artifact, evidence)


def _export(road: Road, exporter: Exporter, recipe: Recipe, folder: Path) -> Artifact:
    from ulsam_deploy.program.views import target_facts

    ranges = road.ranges(recipe.precision)
    request = ExportRequest(recipe.precision, road.options.device, road.options.dla, ranges, recipe.keep)
    lowered = road.lowered(exporter, request)
    artifact = exporter.export(lowered, request, folder)
    facts: dict[str, Any] = {**artifact.facts, **target_facts(lowered)}
    if recipe.precision != "fp32":
        facts["keep"] = list(recipe.keep)
    if ranges:
        samples = len(next(iter(ranges.arrays.values())))
        facts["calibration"] = {"sha256": ranges.digest, "samples": samples}
    return dataclasses.replace(artifact, facts=facts)


def _executed(road: Road, exporter: Exporter, artifact: Artifact, folder: Path) -> tuple[Evidence, Mapping[str, Array]]:
    """What the engine shows; for a failure, with the first module that differs."""
    files = [folder / name for name in artifact.files]
    silenced = silence(exporter, artifact, folder, road.golden)
    evidence = execute(
        exporter.target, files, artifact.inputs, artifact.outputs, road.golden,
        precision=artifact.precision, silenced=silenced,
    )  # fmt: skip
    if evidence.verdict is Verdict.FAIL:
        with runtime_for(exporter.target)(files, artifact.inputs, artifact.outputs) as runtime:
            golden = road.golden.at(artifact.precision)
            evidence = road.located(evidence, golden, runtime.values, artifact.precision)
    return evidence, silenced


def silence(exporter: Exporter, artifact: Artifact, folder: Path, golden: Golden) -> dict[str, Array]:
    """What ``artifact`` gives without each block's attention, compact float32 (B, P, K) by output.

    Empty for fp32, where the outputs alone tell, and where the exporter cannot make such twins. Raises
    :class:`UnavailableError` when there is no engine here.
    """
    engine = runtime_for(exporter.target)
    if artifact.precision == "fp32" or not golden.blocks:
        return {}
    judged = golden.at(artifact.precision)
    rows: list[dict[str, Array]] = []
    with scratch() as place:
        for number in range(len(golden.blocks)):
            into = place / str(number)
            into.mkdir()
            try:
                if not exporter.silence(artifact, folder, number, into):
                    return {}
            except UlsamError:  # a twin is evidence about the artifact, and its making no part of the artifact's
                return {}
            with engine([into / name for name in artifact.files], artifact.inputs, artifact.outputs) as runtime:
                produced = produce(runtime, judged.inputs)
            rows.append({name: compact(array).astype(np.float32) for name, array in produced.items()})
            shutil.rmtree(into)
    return {name: np.stack([row[name] for row in rows]) for name in golden.outputs}
