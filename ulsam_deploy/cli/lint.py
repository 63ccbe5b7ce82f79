"""``ulsam-deploy lint``: what lower precisions would do to each block's attention, before anything is compiled."""

from __future__ import annotations

import argparse

from ulsam_deploy.cli.arguments import model_options
from ulsam_deploy.device import codec
from ulsam_deploy.device.commands import words
from ulsam_deploy.device.errors import Exit
from ulsam_deploy.device.printing import say
from ulsam_deploy.device.progress import Progress
from ulsam_deploy.exporting.network import network_stages
from ulsam_deploy.exporting.options import ExportOptions
from ulsam_deploy.exporting.pipeline import cache_of
from ulsam_deploy.exporting.prepare import prepare
from ulsam_deploy.exporting.workspace import Workspace
from ulsam_deploy.graph.resolution import COLUMNS, rows, suggestion


def run(arguments: argparse.Namespace) -> Exit:
    """Print a line for each block, and what helps where attention would be lost. A forecast fails nothing."""
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
    if arguments.json:
        blocks = [codec.encode(one, "lint") for one in found]
        words.print_json("lint", {"blocks": blocks, "suggestions": said, "notes": list(notes)})
        return Exit.OK
    if found:
        words.print_table(COLUMNS, rows(found))
        say("", "How much of what each block's attention adds would survive, and the word for it; 1 is all.")
    else:
        say("There is no ULSAM block.")
    for sentence in said:
        say(sentence)
    if arguments.probes is None and found:
        say("note: forecast on built-in probes; attention on real inputs is another: give some with --probes")
    for note in notes:
        say(f"note: {note}")
    return Exit.OK
