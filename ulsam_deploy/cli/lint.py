"""``ulsam-deploy lint``: the effect of lower precisions on each block's attention, before anything is compiled."""

from __future__ import annotations

import argparse
from pathlib import Path

from ulsam_deploy.cli.arguments import add_model_options, model_options
from ulsam_deploy.device.commands.answer import Answer, Part, Table
from ulsam_deploy.device.commands.arguments import add_preprocessing
from ulsam_deploy.device.commands.reading import Parser

HELP = "forecast what int8, fp16 and bf16 leave of each block's attention"


def add_words(parser: Parser) -> None:
    """Declare the options of this command."""
    words = parser.words
    words.add("model", type=Path, metavar="MODEL", help="a checkpoint: torch.save or safetensors")
    words.add("--probes", type=Path, metavar="FILE.npz|DIR", help="inputs like the real ones, for the forecast")
    add_preprocessing(words)
    words.add("--no-cache", action="store_true", help="neither read nor write the cache")
    add_model_options(parser)


def run(arguments: argparse.Namespace) -> Answer:
    """A row for each block, and remedies if attention would be lost. A forecast never fails the command."""
    from ulsam_deploy.cli.documents import LintDocument
    from ulsam_deploy.device.progress import Progress
    from ulsam_deploy.exporting.network import network_stages
    from ulsam_deploy.exporting.options import ExportOptions
    from ulsam_deploy.exporting.pipeline import cache_of
    from ulsam_deploy.exporting.prepare import prepare
    from ulsam_deploy.exporting.workspace import Workspace
    from ulsam_deploy.graph.resolution import COLUMNS, rows, suggestion

    options = ExportOptions(
        model=arguments.model,
        probes=arguments.probes,
        preprocessing=arguments.preprocessing,
        cache=not arguments.no_cache,
        **model_options(arguments),
    )
    progress = Progress(beat=not arguments.json)
    with Workspace(cache_of(options, None)) as workspace:
        prepared = prepare(network_stages(options, progress), options, workspace, progress)
    found, notes = prepared.resolutions, prepared.notes
    said = [sentence for one in found if (sentence := suggestion(one))]
    text: list[Part] = ["There is no ULSAM block."]
    if found:
        text = [Table(COLUMNS, rows(found))]
        text.append("")
        text.append("How much of what each block's attention adds would survive, and the word for it; 1 is all.")
    text += said
    if arguments.probes is None and found:
        text.append("note: forecast on built-in probes; attention differs on real inputs: give some with --probes")
    text += [f"note: {note}" for note in notes]
    return Answer(LintDocument(tuple(found), tuple(said), tuple(notes)), text)
