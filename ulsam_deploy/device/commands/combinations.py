"""Combinations of options that make no sense: each is an error, so that no option is silently ignored.

There is one table for each command. Combinations that also concern the Python API are checked in
:mod:`ulsam_deploy.exporting.requests`; this module is about the command line alone. Standard library only; device-safe.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from ulsam_deploy.device.commands.reading import Parser
from ulsam_deploy.device.errors import UsageError

__all__ = ["check_typed", "check_words"]

Typed = AbstractSet[str]


@dataclass(frozen=True)
class Rule:
    """The options ``words`` (names in the parsed arguments) have no effect if ``idle`` holds for all typed options.

    ``why`` continues the message after the option: ``--layout needs --against``. ``expected`` is what would make sense.
    """

    words: tuple[str, ...]
    idle: Callable[[Typed], bool]
    why: str
    expected: str


def _without(*others: str) -> Callable[[Typed], bool]:
    return lambda typed: not typed & set(others)


def _beside(*others: str) -> Callable[[Typed], bool]:
    return lambda typed: bool(typed & set(others))


#: How a checkpoint is read.
_MODEL = ("arch", "factory", "variant", "input", "weights", "trust_pickle", "allow_global")
#: How one artifact is checked against a checkpoint.
_AGAINST = (
    "layout",
    "precision",
    "calibration",
    "reproduce",
    "probes",
    "trust_native",
    "preprocessing",
    "limit",
    "replay",
    "no_cache",
)
_SIGNER = ("key", "identity", "issuer")
_LIMITS = ("time_limit", "memory_limit", "jail")
#: Of every command.
CONFIG = Rule(("trust_config",), _without("config"), "needs --config", "--config FILE.toml as well")
_ANY_HOST = Rule(
    ("host_python", "host_time_limit", "ssh_config"), _without("host"), "needs --host", "--host USER@NAME as well"
)
_TIMING = ("profile", "rounds", "threads", "batch", "provider", "cpus", "inputs", "output", *_LIMITS)
_BESIDE = ("beside", "beside_output")


def _one_artifact(typed: Typed) -> bool:
    return "against" in typed and "data" not in typed


#: By command. Options that simply exclude each other are declared so in the parsers and are not listed here.
RULES: Mapping[str, tuple[Rule, ...]] = {
    "verify": (
        _ANY_HOST,
        Rule(
            (*_SIGNER, "against", "data", *_AGAINST, *_MODEL), _beside("host"), "is for this machine", "no --host"
        ),
        Rule(("device",), _beside("host"), "is an emulated board, and --host a real one", "one of the two"),
        Rule(
            (*_AGAINST, *_MODEL), _without("against"), "needs --against",
            "ulsam-deploy verify --against MODEL ARTIFACT",
        ),
        Rule(
            ("limit",), _without("calibration", "probes"), "is about agreement on real inputs",
            "--calibration or --probes as well",
        ),
        Rule(_AGAINST, _beside("data"), "is about one artifact, and --data about those of a bundle", "no --data"),
        Rule(("target", "device", "provider"), _one_artifact, "is for bundles", "a BUNDLE, without --against"),
        Rule(_SIGNER, _one_artifact, "is about who made a bundle", "a BUNDLE, without --against"),
        Rule(("identity",), _without("issuer"), "needs --issuer", "--identity WHO --issuer URL"),
        Rule(("issuer",), _without("identity"), "needs --identity", "--identity WHO --issuer URL"),
        Rule(("identity", "issuer"), _beside("key"), "names another signer than --key", "one of the two"),
        Rule(
            ("preprocessing",), _without("calibration", "probes"), "needs pictures",
            "--calibration or --probes as well",
        ),
        Rule(
            ("data", "provider", *_LIMITS), _beside("device"), "is for this machine, not for an emulated board",
            "no --device",
        ),
    ),
    "bench": (
        _ANY_HOST,
        Rule(("beside_output",), _without("beside"), "needs --beside", "--beside BUNDLE --beside-output FILE"),
        Rule(_BESIDE, _beside("host"), "is about two bundles on this machine", "no --host"),
        Rule(("device",), _without("count"), "needs --count", "--device NAME --count"),
        Rule(("count",), _without("device"), "needs --device", "--device NAME --count"),
        Rule(
            (*_TIMING, *_BESIDE, "host"), _beside("count"), "is about time, and --count counts instructions",
            "--device NAME --count alone",
        ),
    ),
    "doctor": (_ANY_HOST,),
    "lint": (Rule(("preprocessing",), _without("probes"), "needs pictures", "--probes FILE.npz|DIR as well"),),
    "new": (
        Rule(
            ("name", "output", "insert", "substitute", "subspaces", "variant", "width", "classes", "in_channels",
             "input", "seed"),
            _beside("list"), "writes a network, and --list writes none", "one of the two",
        ),
    ),
}  # fmt: skip


def check_words(words: Sequence[str]) -> None:
    """Raise :class:`UsageError` for an empty argument: probably a variable of a script is not set."""
    for before, word in zip(("", *words), words):
        option, equals, text = word.partition("=")
        if word and not (equals and not text and option.startswith("--")):
            continue
        where = option or (f"after '{before}'" if before else "the first one")
        raise UsageError(
            f"an argument is empty: {where}",
            expected="a value, or neither the option nor its value",
            todo="set the variable that should be there, or omit the option",
        )


def check_typed(name: str, command: Parser, words: Sequence[str]) -> None:
    """Raise :class:`UsageError` for an option that has no effect with the others.

    Args:
        name: The name of the command.
        command: Its parser.
        words: The arguments after its name.
    """
    typed = command.typed(words)
    shown = {word.dest: word.shown for word in command.declared}
    for rule in (CONFIG, *RULES.get(name, ())):
        for dest in rule.words:
            if dest in typed and rule.idle(typed.keys()):
                raise UsageError(f"{shown[dest]} {rule.why}", expected=rule.expected)
