"""``ulsam-deploy export``: the command around :func:`ulsam_deploy.exporting.pipeline.export`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path

from ulsam_deploy.cli.arguments import add_model_options, add_replay, model_options
from ulsam_deploy.device import precisions
from ulsam_deploy.device.commands.answer import Answer, Part, Table
from ulsam_deploy.device.commands.arguments import add_ci_options, add_preprocessing, add_target, targets_of, value
from ulsam_deploy.device.commands.reading import Parser
from ulsam_deploy.device.errors import Exit, UsageError
from ulsam_deploy.device.findings import ReplayDepth
from ulsam_deploy.device.printing import say
from ulsam_deploy.device.targets import ALL
from ulsam_deploy.device.types import EvidenceLevel
from ulsam_deploy.exporting import options

HELP = "take a checkpoint to verified artifacts in one bundle"


def add_words(parser: Parser) -> None:
    """Declare the options of this command."""
    words = parser.words
    words.add("model", type=Path, metavar="MODEL", help="a checkpoint (torch.save, safetensors) or an .onnx")
    add_target(words, "onnx, openvino, tflite, trt or all, or an engine's name (default: all that is installed)")
    words.add("-o", "--output", type=Path, metavar="DIR", help="the bundle (default: MODEL's name + .bundle)")
    add_model_options(parser)
    words.add(
        "--batch", type=value(options.parse_batch), default=1, metavar="N", help="batch size, or 'dynamic' (default 1)"
    )
    words.add(
        "--precision",
        action="append",
        type=value(precisions.parse_precisions),
        metavar="NAME",
        help=f"of the artifacts, repeated or comma-separated: {', '.join(precisions.PRECISIONS)}, or "
        "auto: the fastest within a budget (default fp32)",
    )
    words.add(
        "--calibration",
        type=Path,
        metavar="FILE.npz|DIR",
        help="inputs like the real ones, which int8 takes ranges from",
    )
    words.add(
        "--keep", action="append", default=[], metavar="MODULE", help="leave this module (its path) in floating point"
    )
    words.add(
        "--tune", action="store_true", help="time equivalent forms of each attention block here, and use the fastest"
    )
    limits = parser.group("limits (see docs/precision.md and docs/auto.md)")
    limits.add("--budget", type=Path, metavar="FILE.toml", help="limits, in its table [budget]")
    limits.add(
        "--limit",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="one limit, overrides the file's: agreement and deviation on real inputs; for auto also drop (points of "
        "top-1), error (noise floors), retention, size",
    )
    auto = parser.group("--precision auto (see docs/auto.md)")
    auto.add(
        "--data", type=Path, metavar="DIR|FILE.npz", help="labelled data: a folder per class, or inputs and 'labels'"
    )
    auto.add(
        "--recipe", type=Path, metavar="FILE.toml", help="make what an earlier search chose: a bundle's recipe.toml"
    )
    words.add("--probes", type=Path, metavar="FILE.npz|DIR", help="your own inputs, checked in addition")
    add_preprocessing(words)
    words.add("--device", default="", metavar="NAME", help="a device profile, such as jetson-orin-jp6")
    words.add("--dla", action="store_true", help="for the device's deep learning accelerator (trt only)")
    words.add(
        "--require",
        type=value(EvidenceLevel.from_label),
        default=EvidenceLevel.EXPORTED,
        metavar="LEVEL",
        help="lowest evidence level that counts as success: " + ", ".join(level.label for level in options.REACHABLE),
    )
    add_replay(words)
    words.add(
        "--watch",
        action="append",
        metavar="MODULE",
        help="attention gates to watch besides ULSAM: a module's (repeatable), auto (default: those that matter most), "
        "all or none",
    )
    words.add("--save-config", type=Path, metavar="FILE.toml", help="write these options to a file, and go on")
    words.add("--dry-run", action="store_true", help="print what would be done, or refused; write nothing")
    words.add("--no-cache", action="store_true", help="neither read nor write the cache")
    add_ci_options(words)


def run(arguments: argparse.Namespace) -> Answer:
    """Export; the answer is a table of the artifacts, and what to type next."""
    asked = options_from(arguments)
    if arguments.dry_run:
        return _plan(arguments, asked)
    from ulsam_deploy.cli.export_answer import answer, tell
    from ulsam_deploy.device.commands.ci import handover
    from ulsam_deploy.device.progress import Progress
    from ulsam_deploy.exporting.pipeline import export

    with handover(arguments, asked.model, apart_from=asked.bundle) as told:
        result = export(asked, Progress(beat=not arguments.json))
        tell(told, result, asked)
    return answer(result, asked)


def options_from(arguments: argparse.Namespace) -> options.ExportOptions:
    """The parsed arguments as options of an export."""
    from ulsam_deploy.exporting.budget import read_budget

    return options.ExportOptions(
        model=arguments.model,
        targets=targets_of(arguments) or (ALL,),
        output=arguments.output,
        batch=arguments.batch,
        precisions=tuple(dict.fromkeys(word for words in arguments.precision or [("fp32",)] for word in words)),
        calibration=arguments.calibration,
        keep=tuple(arguments.keep),
        preprocessing=arguments.preprocessing,
        recipes=_recipes(arguments),
        budget=read_budget(arguments.budget, arguments.limit),
        data=arguments.data,
        tune=arguments.tune,
        probes=arguments.probes,
        device=arguments.device,
        dla=arguments.dla,
        require=arguments.require,
        replay=ReplayDepth(arguments.replay),
        watch=tuple(arguments.watch or ("auto",)),
        **model_options(arguments),
        cache=not arguments.no_cache,
    )


def _recipes(arguments: argparse.Namespace) -> Mapping[str, options.Recipe]:
    """The recipes in the file of ``--recipe``; raises :class:`UsageError` for options that conflict with it."""
    from ulsam_deploy.exporting.budget import read_budget
    from ulsam_deploy.exporting.search import read_recipes
    from ulsam_deploy.load.source import file_digest_of

    auto = any("auto" in words for words in arguments.precision or ())
    for_search = read_budget(arguments.budget, arguments.limit).is_for_search
    for word in ("budget", "limit", "data"):
        if getattr(arguments, word) and not auto and (word == "data" or for_search):
            raise UsageError(f"--{word} is for --precision auto", expected="--precision auto as well")
    if arguments.recipe is None:
        return {}
    for word in ("precision", "keep"):
        if getattr(arguments, word):
            raise UsageError(f"--recipe and --{word} both say how artifacts are made", expected="one of the two")
    recipes = read_recipes(arguments.recipe)
    if recipes.model != file_digest_of(arguments.model):
        say("  note: the recipe was found for another checkpoint: its results may not hold for this one", error=True)
    return recipes.targets


def _plan(arguments: argparse.Namespace, asked: options.ExportOptions) -> Answer:
    """``--dry-run``: the plan; the exit code is that of the export as far as it can be known."""
    from ulsam_deploy.device.commands.ci import check_places
    from ulsam_deploy.exporting.pipeline import describe_export

    check_places(arguments, asked.bundle)
    found = describe_export(asked)
    rows = [(step.name, step.precision or "", step.state, step.why) for step in found.steps]
    text: list[Part] = [
        f"{found.model}, SHA-256 {found.sha256}",
        f"would {'replace' if found.replaces else 'be written to'} {found.bundle}\n",
        Table(("step", "precision", "this time", "why"), rows),
        *(f"note: {note}" for note in found.notes),
        "",
        "Nothing was done: run it without --dry-run to export.",
    ]
    return Answer(found, text, Exit(found.exit_code))
