"""Which gates of a network are watched: of many, those that its outputs depend on most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from ulsam_deploy.graph.evaluate import Evaluator, batches, of_each, one_thread
from ulsam_deploy.graph.program import Program
from ulsam_deploy.graph.watching.ablation import Folded
from ulsam_deploy.graph.watching.finding import AttentionGate, named_gates, watched_gates

#: How many gates are watched where the user names none: each costs a part of a float64 run for every probe.
MOST = 8
#: On how many inputs it is learned what a gate is folded to.
LEARNED = 8
#: On how many inputs many gates are compared to choose among them.
RANKED = 4


@dataclass(frozen=True)
class WatchedGates:
    """The gates that are watched, in graph order, and what each is folded to; ``left_out``: the paths of others."""

    gates: tuple[AttentionGate, ...]
    left_out: tuple[str, ...]
    folded: Folded


def choose_gates(program: Program, watch: Sequence[str], inputs: Mapping[str, Tensor], size: int) -> WatchedGates:
    """Choose the gates to watch, and learn what each is folded to.

    Args:
        program: The fused network.
        watch: As in :func:`~ulsam_deploy.graph.watching.finding.watched_gates`; ``("auto",)`` is limited to
            :data:`MOST`.
        inputs: The probes.
        size: How many are evaluated at once.

    Raises:
        UsageError: The network has no module of that name.
    """
    gates = watched_gates(program, watch)
    if not gates:
        return WatchedGates((), (), Folded(program, ()))
    parts = list(batches(_spread(inputs, size), size))
    folded = Folded(program, gates)
    with one_thread():
        for part in parts:
            folded.learn(part)
        if tuple(watch) != ("auto",) or len(gates) <= MOST:
            return WatchedGates(gates, (), folded)
        found = [_effects(program, folded, part) for part in parts[: max(1, RANKED // size)]]
        effects = [max(each) for each in zip(*found)]
    best = sorted(range(len(gates)), key=lambda number: -effects[number])[:MOST]
    left = tuple(gate.path for number, gate in enumerate(gates) if number not in best)
    return WatchedGates(tuple(gates[number] for number in sorted(best)), left, folded)


def folded_on(program: Program, names: Sequence[str], feeds: Sequence[Sequence[Tensor]]) -> Folded:
    """What the gates called ``names`` are folded to, learned on ``feeds``, each one batch of inputs."""
    folded = Folded(program, named_gates(program, names))
    with one_thread():
        for feed in feeds:
            folded.learn(feed)
    return folded


def gate_ablations(
    program: Program, watched: WatchedGates, inputs: Mapping[str, Tensor], size: int
) -> list[list[dict[str, Tensor]]]:
    """For each batch of ``inputs``, the outputs with each watched gate ablated, in turn."""
    evaluator = Evaluator(program)
    changes = [watched.folded.instead(gate) for gate in watched.gates]
    return of_each(lambda part: evaluator.replaced(part, changes, watched.folded.keep())[1], batches(inputs, size))


def _spread(inputs: Mapping[str, Tensor], size: int) -> dict[str, Tensor]:
    """Whole batches of some of ``inputs``, from all over them."""
    count = len(next(iter(inputs.values())))
    wanted = max(size, LEARNED // size * size)
    step = max(1, count // wanted)
    return {name: tensor[::step][:wanted] for name, tensor in inputs.items()}


def _effects(program: Program, folded: Folded, part: Sequence[Tensor]) -> list[float]:
    """How far ablating each gate moves the output that it moves most, relative to it."""
    changes = [folded.instead(gate) for gate in folded.gates]
    reference, found = Evaluator(program).replaced(part, changes, folded.keep())
    sizes = {name: float(tensor.norm()) or 1.0 for name, tensor in reference.items()}
    return [max(float((one[name] - reference[name]).norm()) / sizes[name] for name in reference) for one in found]
