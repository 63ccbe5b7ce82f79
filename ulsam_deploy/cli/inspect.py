"""``ulsam-deploy inspect``: what is inside a checkpoint or a bundle."""

from __future__ import annotations

import argparse

from ulsam_deploy.cli.arguments import model_options
from ulsam_deploy.device import codec
from ulsam_deploy.device.bundle import MANIFEST, read_bundle
from ulsam_deploy.device.commands import words
from ulsam_deploy.device.errors import Exit, UsageError
from ulsam_deploy.device.printing import say
from ulsam_deploy.device.shapes import shape_text
from ulsam_deploy.device.types import Block
from ulsam_deploy.exporting.options import ExportOptions
from ulsam_deploy.load import cost as census
from ulsam_deploy.load import source
from ulsam_deploy.load.cost import Census, ModuleCost


def run(arguments: argparse.Namespace) -> Exit:
    """A folder or a ``.zip`` with a manifest is a bundle; anything else is read as a checkpoint."""
    path = arguments.path
    options = ExportOptions(model=path, **model_options(arguments))
    if not (path.is_dir() or path.suffix == ".zip"):
        return _checkpoint(arguments, options)
    if options != ExportOptions(model=path):
        raise UsageError(
            f"how a checkpoint is read was said, and '{path}' is a bundle", expected="a bundle without such words"
        )
    return _bundle(arguments)


def _bundle(arguments: argparse.Namespace) -> Exit:
    bundle = read_bundle(arguments.path)
    bundle.verify_integrity()
    manifest = bundle.manifest
    if arguments.json:
        words.print_json("inspect", {"manifest": codec.encode(manifest, MANIFEST)})
        return Exit.OK
    card = manifest.model
    say(f"{card.name}: {card.network}, {card.parameters:,} parameters, checkpoint sha256 {card.sha256}")
    if card.blocks:
        rows = [(b.path, str(b.channels), str(b.subspaces), f"{b.height}x{b.width}") for b in card.blocks]
        say("")
        words.print_table(("ULSAM block", "channels", "subspaces", "map"), rows)
    say("")
    words.print_table(words.ARTIFACT_COLUMNS, [words.artifact_row(a, a.evidence) for a in manifest.artifacts])
    return Exit.OK


def _checkpoint(arguments: argparse.Namespace, options: ExportOptions) -> Exit:
    count = census.count(source.load(options))
    if arguments.json:
        words.print_json("inspect", codec.encode(count, "inspect"))
    else:
        _print(count)
    return Exit.OK


def _print(found: Census) -> None:
    """The census as text."""
    total = found.total
    shapes = ", ".join(map(shape_text, found.inputs))
    say(f"{found.network} at {shapes}: {total.parameters:,} parameters, {total.macs / 1e6:,.3f} M MACs")
    if found.backbone:
        bare = found.backbone
        say(
            f"without ULSAM: {bare.parameters:,} parameters ({_change(total.parameters, bare.parameters)}), "
            f"{bare.macs / 1e6:,.3f} M MACs ({_change(total.macs, bare.macs)})"
        )
    if found.blocks:
        columns = ("ULSAM block", "channels", "subspaces", "map", "parameters", "share", "MACs", "share")
        rows = [_row(block, cost, total) for block, cost in zip(found.blocks, found.costs)]
        say("")
        words.print_table(columns, rows)
    for refusal in found.refusals:
        say(f"{refusal.path}: left as it is, {refusal.reason}")
    if not found.blocks and not found.refusals:
        say("no ULSAM block was found")


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
