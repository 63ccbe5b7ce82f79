"""``ulsam-deploy inspect``: what is inside a checkpoint or a bundle."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ulsam_deploy.cli.arguments import add_model_options, model_options
from ulsam_deploy.device.commands.answer import Answer, Part, Table
from ulsam_deploy.device.commands.reading import Parser
from ulsam_deploy.device.errors import UsageError
from ulsam_deploy.device.findings import ReasonKind
from ulsam_deploy.device.shapes import shape_text

if TYPE_CHECKING:
    from ulsam_deploy.device.types import Block
    from ulsam_deploy.load.cost import Census, ModuleCost

_AGREEMENT = (ReasonKind.AGREEMENT_FAULT, ReasonKind.AGREEMENT_NOTE)
HELP = "show what is inside a checkpoint or a bundle"


def add_words(parser: Parser) -> None:
    """Declare the options of this command."""
    parser.words.add("path", type=Path, metavar="MODEL|BUNDLE", help="a checkpoint, a bundle folder or a .zip")
    add_model_options(parser)


def run(arguments: argparse.Namespace) -> Answer:
    """A folder or a ``.zip`` with a manifest is a bundle; anything else is read as a checkpoint."""
    from ulsam_deploy.exporting.options import ExportOptions

    path = arguments.path
    options = ExportOptions(model=path, **model_options(arguments))
    if path.is_dir() or path.suffix == ".zip":
        if options != ExportOptions(model=path):
            raise UsageError(
                f"'{path}' is a bundle, and some options are for checkpoints", expected="a bundle without such options"
            )
        return _bundle(path)
    from ulsam_deploy.cli.documents import CensusDocument
    from ulsam_deploy.load import cost, source

    found = cost.count(source.load(options))
    return Answer(CensusDocument(**vars(found)), _census(found))


def _bundle(path: Path) -> Answer:
    from ulsam_deploy.cli.documents import InspectBundleDocument
    from ulsam_deploy.device.bundle import read_bundle
    from ulsam_deploy.device.commands.words import ARTIFACT_COLUMNS, artifact_row, further_rows

    bundle = read_bundle(path)
    bundle.verify_integrity()
    manifest = bundle.manifest
    card = manifest.model
    text: list[Part] = [f"{card.name}: {card.network}, {card.parameters:,} parameters, checkpoint sha256 {card.sha256}"]
    if card.blocks:
        rows = [(b.path, str(b.channels), str(b.subspaces), f"{b.height}x{b.width}") for b in card.blocks]
        text += ["", Table(("ULSAM block", "channels", "subspaces", "map"), rows)]
    shown = [
        [artifact_row(a, a.evidence), *further_rows(a.target, a.files[0].path, a.evidence)] for a in manifest.artifacts
    ]
    text += ["", Table(ARTIFACT_COLUMNS, [row for rows in shown for row in rows])]
    reasons = [(artifact, reason) for artifact in manifest.artifacts for reason in artifact.evidence.reasons]
    text += [f"{one.target} {one.precision}: {why}" for one, why in reasons if why.kind in _AGREEMENT]
    return Answer(InspectBundleDocument(manifest), text)


def _census(found: Census) -> list[Part]:
    """The census as text."""
    total = found.total
    shapes = ", ".join(shape_text(shape) for shape in found.inputs)
    text: list[Part] = [f"{found.network} at {shapes}: {total.parameters:,} parameters, {total.macs / 1e6:,.3f} M MACs"]
    if found.backbone:
        bare = found.backbone
        text.append(
            f"without ULSAM: {bare.parameters:,} parameters ({_change(total.parameters, bare.parameters)}), "
            f"{bare.macs / 1e6:,.3f} M MACs ({_change(total.macs, bare.macs)})"
        )
    if found.blocks:
        columns = ("ULSAM block", "channels", "subspaces", "map", "parameters", "share", "MACs", "share")
        text += ["", Table(columns, [_row(block, cost, total) for block, cost in zip(found.blocks, found.costs)])]
    text += [f"{refusal.path}: left as it is, {refusal.reason}" for refusal in found.refusals]
    if found.gates:
        text += ["", Table(("attention gate", "weighs"), [(gate.path, gate.form) for gate in found.gates])]
    if not found.blocks and not found.refusals:
        text.append("no ULSAM block was found")
    return text


def _change(now: int, before: int) -> str:
    return f"with it {100 * (now - before) / before:+.2f} %"


def _row(block: Block, cost: ModuleCost, total: ModuleCost) -> tuple[str, ...]:
    return (
        block.path,
        str(block.channels),
        str(block.subspaces),
        f"{block.height}x{block.width}",
        f"{cost.parameters:,}",
        f"{100 * cost.parameters / total.parameters:.3f} %",
        f"{cost.macs:,}",
        f"{100 * cost.macs / max(total.macs, 1):.3f} %",
    )
