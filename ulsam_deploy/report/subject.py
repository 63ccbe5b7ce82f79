"""The part of a report about one bundle: prepares everything for the template.

The result is text, figures and positions in pixels only; there is no HTML here, except for the plots, which are SVG.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from ulsam_deploy.device.bundle import ArtifactRecord, Manifest
from ulsam_deploy.device.checks import Check, artifact_checks
from ulsam_deploy.device.findings import AutoPoint, BlockCheck, Step, Verdict
from ulsam_deploy.device.invocation import typed
from ulsam_deploy.device.maps import MAPS, Maps, step_counts
from ulsam_deploy.device.parity import Golden
from ulsam_deploy.device.printing import shown
from ulsam_deploy.device.shapes import shape_text
from ulsam_deploy.device.types import EvidenceLevel
from ulsam_deploy.report import REPORT, drawing, plots, viewer
from ulsam_deploy.report.comparison import Figures
from ulsam_deploy.report.modules import replay_table
from ulsam_deploy.report.part import Part, milliseconds, times_table

#: In the small picture of a block, in pixels: the position of retention 0, the distance to retention 1, the width.
_ZERO, _ONE, _WIDTH = 25.0, 100.0, 150.0
#: The file types and precisions for which the report shows a ``verify --against`` command that reproduces a failure.
_OPENED, _JUDGED = (".onnx", ".xml", ".tflite"), ("fp32", "fp16")


@dataclass(frozen=True)
class BundlePart(Part):
    """One bundle in a report. Its attention viewer shows ``maps`` and ``golden``; ``None``: no viewer."""

    name: str
    manifest: Manifest
    maps: Maps | None = None
    golden: Golden | None = field(default=None, repr=False)

    @cached_property
    def checks(self) -> tuple[Check, ...]:
        """Every check of every artifact, and one for each artifact that could not be made."""
        left = self.manifest.run.left_out
        return tuple(
            check
            for record in self.manifest.artifacts
            for check in artifact_checks(title(record), record.evidence, self._again(record))
        ) + tuple(
            Check(label, "export", Verdict.UNVERIFIED, f"{label} was left out: {why}") for label, why in left.items()
        )

    def _again(self, record: ArtifactRecord) -> str:
        """The commands to repeat a check, and to reproduce a failure elsewhere."""
        again = typed("ulsam-deploy", "verify", Path(f"{self.name}.bundle"), "--target", record.target)
        file = record.files[0].path
        if (
            not file.endswith(_OPENED)
            or record.precision not in _JUDGED
            or record.evidence.level < EvidenceLevel.EXECUTED
        ):
            return again
        artifact = Path(f"{self.name}.bundle", file)
        others = ("--against", "MODEL", artifact, "--precision", record.precision, "--reproduce", "case")
        return f"{again}\nTo take it to others: {typed('ulsam-deploy', 'verify', *others)}"

    @property
    def verdict(self) -> Verdict:
        """The worst verdict of the artifacts; ``unverified`` counts only if nothing was executed."""
        verdicts = {record.evidence.verdict for record in self.manifest.artifacts}
        order = (Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.PASS)
        return next((verdict for verdict in order if verdict in verdicts), Verdict.UNVERIFIED)

    @property
    def sentence(self) -> str:
        """The verdict in one sentence."""
        names = {
            verdict: [title(r) for r in self.manifest.artifacts if r.evidence.verdict is verdict] for verdict in Verdict
        }
        parts = [
            _clause(names[Verdict.FAIL], "does not", "do not", "compute what the PyTorch model computes"),
            _clause(names[Verdict.INCONCLUSIVE], "could", "could", "not be told right from wrong"),
            _clause(names[Verdict.PASS], "computes", "compute", "what the PyTorch model computes, attention and all"),
            _clause(names[Verdict.UNVERIFIED], "was", "were", "made and not executed here"),
        ]
        parts.append(_clause(list(self.manifest.run.left_out), "was", "were", "left out"))
        return "; ".join(filter(None, parts)) + "."

    @property
    def subtitle(self) -> str:
        """The network in one line."""
        card = self.manifest.model
        blocks = f"{len(card.blocks)} ULSAM blocks" if len(card.blocks) != 1 else "one ULSAM block"
        return f"{card.network}, {card.parameters:,} parameters, {blocks}"

    def without_maps(self) -> BundlePart:
        """The same part without the maps, which are large."""
        return dataclasses.replace(self, maps=None, golden=None)

    def figures(self) -> Mapping[str, Figures]:
        """The figures of each artifact."""
        machine = f"{self.manifest.run.system} {self.manifest.run.machine}".strip()
        return {title(record): _figures(record, machine) for record in self.manifest.artifacts}

    def context(self, number: int | None = None) -> dict[str, Any]:
        """The template's data; ``number`` makes this subject's identifiers unique on the page."""
        empty = self.empty(number)
        shown = {record.path for record in self.manifest.extras} - {REPORT}
        timed = [(title(record), record.evidence.latency) for record in self.manifest.artifacts]
        return {
            **empty,
            "cards": [_card(record) for record in self.manifest.artifacts],
            "failures": [check for check in self.checks if _is_shown(check)],
            "viewer": self._viewer(),
            "blind": viewer.blind(self.maps) if self.maps else (),
            "plots": list(_plots(self.manifest.artifacts, empty["id"])),
            "replayed": replay_table(
                {title(r): r.evidence.replay for r in self.manifest.artifacts if r.evidence.replay}, empty["id"]
            ),
            "times": times_table([(label, latency) for label, latency in timed if latency]),
            **self._graphs(),
            "lints": _lints(self.manifest),
            "environment": list(_environment(self.manifest)),
            "files": [
                (record.path, f"{record.size:,} B", record.sha256)
                for record in self.manifest.members()
                if record.path in shown or record not in self.manifest.extras
            ],
        }

    def _viewer(self) -> dict[str, Any] | None:
        data = viewer.viewer_data(self.maps, self.golden) if self.maps and self.golden else None
        if data is None or self.maps is None:
            return None
        return {
            "json": _inside_script(data),
            "probes": data["probes"],
            "blocks": data["blocks"],
            "subspaces": viewer.subspaces(self.maps),
            "engines": [engine["label"] for engine in data["engines"]],
        }

    def _graphs(self) -> dict[str, Any]:
        """The first block in PyTorch and in each artifact, as drawings and as a table of counts."""
        got: dict[tuple[Step, ...], list[str]] = {}
        for record in self.manifest.artifacts:
            if record.facts.block:
                got.setdefault(record.facts.block, []).append(title(record))
        columns = {"PyTorch, as written": self.maps.naive} if self.maps and self.maps.naive else {}
        columns |= {", ".join(names): steps for steps, names in got.items()}
        counts = {name: step_counts(steps) for name, steps in columns.items()}
        names = sorted({name for found in counts.values() for name in found})
        rows = [(name, *(str(found.get(name, "")) for found in counts.values())) for name in names]
        return {
            "graphs": [drawing.drawn(name, steps) for name, steps in columns.items()],
            "block": self.manifest.model.blocks[0].path if self.manifest.model.blocks else "",
            "operations": {"columns": ("operation", *columns), "rows": rows},
            "totals": [
                (title(record), ", ".join(f"{count} {name}" for name, count in record.facts.operators.items()))
                for record in self.manifest.artifacts
                if record.facts.operators
            ],
        }


def of_bundle(manifest: Manifest, folder: Path, name: str) -> BundlePart:
    """The part about the bundle in ``folder``, as far as it is written."""
    maps = folder / MAPS
    if not maps.is_file() or manifest.golden is None:
        return BundlePart(name, manifest)
    return BundlePart(name, manifest, Maps.load(maps), Golden.load(folder / manifest.golden.path))


def title(record: ArtifactRecord) -> str:
    """The title of an artifact: ``onnx fp32``."""
    return f"{record.target} {record.precision}"


def _clause(names: Sequence[str], one: str, many: str, what: str) -> str:
    return f"{', '.join(names)} {one if len(names) == 1 else many} {what}" if names else ""


def _inside_script(data: object) -> Any:
    """JSON inside a script element, which it cannot end. The script shows names as they are, so they are made inert."""
    from markupsafe import Markup

    text = json.dumps(_inert(data), separators=(",", ":"))
    for letter in "<>&":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return Markup(text)


def _inert(data: Any) -> Any:
    """``data`` with every text on one line, without control characters."""
    if isinstance(data, dict):
        return {key: _inert(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_inert(value) for value in data]
    return shown(data) if isinstance(data, str) else data


def _card(record: ArtifactRecord) -> dict[str, Any]:
    parity, latency = record.evidence.parity, record.evidence.latency
    outputs, blocks = (parity.outputs, parity.blocks) if parity else ((), ())
    errors = _errors(record)
    facts = [
        ("evidence", record.evidence.level.label),
        ("error", f"{max(errors):.2f} of {parity.tolerance:g} noise floors" if errors and parity else "not measured"),
        ("size", f"{sum(file.size for file in record.files) / 1e6:.2f} MB"),
        (
            "latency",
            f"{milliseconds(latency.p50)} ms (p50, batch {latency.batch})" if latency else "not measured",
        ),
        ("computes in", record.effective_precision),
        ("file", record.files[0].path),
    ]
    top1 = [output.top1 for output in outputs if output.top1 is not None]
    if top1:
        facts.insert(2, ("same top-1", f"{100 * min(top1):.0f} % of probes"))
    facts += _agreement(record)
    if plain := record.evidence.plain:
        error = "far off" if plain.error is None else f"{plain.error:.2f} noise floors"
        facts.append(("by the engine's defaults", f"in {plain.precision}: {error}, {plain.verdict.value}"))
    for row in record.evidence.interpreters:
        error = "far off" if row.error is None else f"{row.error:.2f} noise floors"
        facts.append((f"by {row.title}", f"{error}, {row.verdict.value}" if row.probes else f"not run: {row.note}"))
    return {
        "title": title(record),
        "verdict": record.evidence.verdict.value,
        "facts": facts,
        "retentions": [
            (caption, [_block(block) for block in found])
            for caption, found in (("block", blocks), ("attention gate", parity.gates if parity else ()))
            if found
        ],
        "reasons": [reason.text for reason in record.evidence.reasons],
        "explained": [output.explanation for output in outputs],
    }


def _agreement(record: ArtifactRecord) -> Iterator[tuple[str, str]]:
    """What the artifact has in common with PyTorch on real inputs, by output."""
    found = record.evidence.agreement
    several = found is not None and len(found.outputs) > 1
    for one in found.outputs if found else ():
        of = f" of {one.output}" if several else ""
        for what, agreed in (("top-1 on held-out inputs", one.all), ("where PyTorch is sure", one.sure)):
            if agreed:
                interval = f"{agreed.low:.3f} to {agreed.high:.3f}"
                yield f"{what}{of}", f"{agreed.same} of {agreed.count} as PyTorch's ({interval})"
        if one.deviation is not None:
            yield f"error over variation{of}", f"{one.deviation:.3f}"


def _is_shown(check: Check) -> bool:
    """Whether a check is listed among the failures; an artifact that was only not run here has a note on its card."""
    return check.verdict in (Verdict.FAIL, Verdict.INCONCLUSIVE) or check.name == "export"


def _figures(record: ArtifactRecord, machine: str) -> Figures:
    parity, latency = record.evidence.parity, record.evidence.latency
    return Figures(
        where=machine,
        verdict=record.evidence.verdict.value,
        size=sum(file.size for file in record.files),
        error=max(_errors(record), default=None),
        retention=min(parity.retentions, default=None) if parity else None,
        p50=latency.p50 if latency else None,
        p90=latency.p90 if latency else None,
    )


def _errors(record: ArtifactRecord) -> list[float]:
    """The error of each comparable output, in noise floors."""
    outputs = record.evidence.parity.outputs if record.evidence.parity else ()
    return [output.error for output in outputs if output.error is not None]


def _block(block: BlockCheck) -> dict[str, Any]:
    """One block's retention as a mark on a scale, in pixels, and as text; nothing is drawn if it is unknown."""
    low, value, high = block.low, block.retention, block.high
    drawn: dict[str, float | None] = {"low": None, "width": None, "at": None}
    if low is not None and value is not None and high is not None:
        left, at, right = (min(max(_ZERO + _ONE * x, 0.0), _WIDTH - 3) for x in (low, value, high))
        drawn = {"low": round(left, 1), "width": round(max(right - left, 1.0), 1), "at": round(at - 1.5, 1)}
    figure = "n/a" if value is None else f"{value:.2f} {block.state.value}"
    return {"path": block.block, "figure": figure, "words": f"{block.block}: retention {figure}", **drawn}


def _plots(records: Sequence[ArtifactRecord], place: str) -> Iterator[tuple[Any, str]]:
    from markupsafe import Markup

    yield from _searches(records, place)
    timed = [(title(record), record.evidence.latency) for record in records]
    curves = [
        plots.PlotCurve(label, latency.quantiles, marks)
        for label, latency in timed
        if latency and len(latency.quantiles) > 1
        if plots.is_drawable(*latency.quantiles, *(marks := latency.percentiles()).values())
    ]
    if not curves:
        return
    caption = "How long single runs took where the bundle was made: higher and further left is better."
    yield Markup(plots.latency_plot(curves, f"{place}latency")), caption
    points = [
        plots.PlotPoint(title(record), latency.p50, max(errors))
        for record in records
        if (latency := record.evidence.latency) and latency.p50 and (errors := _errors(record))
        if plots.is_drawable(latency.p50, max(errors))
    ]
    if len(points) > 1:
        svg = plots.pareto_plot(points, "latency (p50), ms", f"{place}pareto")
        yield Markup(svg), "What is fast against what is exact: further down and left is better."


def _searches(records: Sequence[ArtifactRecord], place: str) -> Iterator[tuple[Any, str]]:
    """The trials of ``--precision auto``, one plot for each target."""
    from markupsafe import Markup

    for record in records:
        auto = record.facts.auto
        points = [
            plots.PlotPoint(_recipe_words(point), point.ratio.estimate, point.deviation)
            for point in (auto.points if auto else ())
            if point.deviation is not None and plots.is_drawable(point.ratio.estimate, point.deviation)
        ]
        if auto and len(points) > 1:
            error = "deviation, as a part of the output"
            svg = plots.pareto_plot(points, "time over fp32's", f"{place}auto-{record.target}", error)
            yield Markup(svg), f"{record.target}: {auto.sentence}."


def _recipe_words(point: AutoPoint) -> str:
    kept = len(point.keep)
    return f"{point.precision}{f', {kept} kept' if kept else ''}{' (chosen)' if point.chosen else ''}"


def _lints(manifest: Manifest) -> list[str]:
    """Documented refusals by devices, look-alikes that were left unchanged, and what to do about them."""
    refusals = manifest.model.refusals
    found = [f"{refusal.path} looks like ULSAM and is left as it is: {refusal.reason}." for refusal in refusals]
    for record in manifest.artifacts:
        lints = record.facts.lint
        found += [f"{title(record)} on {device}: {message}" for device, said in lints.items() for message in said]
        found += [f"{title(record)}: {sentence}" for sentence in record.facts.suggestions]
        if record.evidence.level < EvidenceLevel.EXECUTED:
            found.append(f"{title(record)} was not executed here: verify it on its device.")
    return found


def _environment(manifest: Manifest) -> Iterator[tuple[str, str]]:
    card = manifest.model
    yield "checkpoint", f"{card.name}, SHA-256 {card.sha256}"
    yield (
        "inputs",
        ", ".join(f"{spec.name} {shape_text(spec.shape)}" for spec in card.inputs),
    )
    if card.preprocessing:
        words = dataclasses.asdict(card.preprocessing)
        yield "preprocessing", ", ".join(f"{name} {value}" for name, value in words.items())
    tools = {name: version for record in manifest.artifacts for name, version in record.toolchain.items()}
    yield "tools", ", ".join(f"{name} {version}" for name, version in sorted(tools.items()))
    engines = {record.evidence.engine.title for record in manifest.artifacts if record.evidence.engine}
    yield "engines", ", ".join(sorted(engines)) or "none ran"
    run = manifest.run
    made_on = (("machine", run.machine), ("python", run.python), ("system", run.system), ("ulsam-deploy", run.version))
    yield from ((name, value) for name, value in made_on if value)
