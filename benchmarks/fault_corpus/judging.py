"""One artifact judged: by this project's check, with the place that it names, and by the rules of other tools."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from ulsam_deploy.device.bundle import Evidence
from ulsam_deploy.device.errors import UlsamError
from ulsam_deploy.device.findings import Verdict
from ulsam_deploy.device.parity import Golden, Report, check
from ulsam_deploy.device.types import EvidenceLevel
from ulsam_deploy.device.verify import worst_batch
from ulsam_deploy.graph import measure_floors, module_points
from ulsam_deploy.graph.divergence import Point, first_divergence

from .engines import Outputs, Ports, opened, torch_run
from .rules import RULES, passes
from .subjects import Subject


@dataclass(frozen=True)
class Judged:
    """What became of one artifact. ``place`` is where its fault is; ``named`` whether the verdict says so.

    ``verdict`` is ``refused`` when the engine did not open or run it. ``rules``: the other tools' that passed it.
    ``error`` is in noise floors. ``named`` is ``None`` where there is no place, or where it was not asked for.
    """

    subject: str
    name: str
    target: str
    faulty: bool
    verdict: str
    error: float = 0.0
    rules: frozenset[str] = frozenset()
    place: str = ""
    named: bool | None = None
    said: tuple[str, ...] = ()

    def right(self, rule: str = "") -> bool:
        """Whether the verdict, or that of another tool's ``rule``, is the right one; inconclusive never is."""
        if rule:
            return (rule in self.rules) is not self.faulty
        return self.verdict == "pass" if not self.faulty else self.verdict in ("fail", "refused")


@dataclass
class Judge:
    """Judges the artifacts of one subject; what they share is made once."""

    subject: Subject
    _half: Golden | None = None
    _points: dict[int, list[Point]] = field(default_factory=dict)
    _eager: Outputs = field(default_factory=dict)

    def artifact(
        self, name: str, target: str, outputs: Callable[[], Outputs], *, faulty: bool, half: bool = False,
        place: str = "", path: Path | None = None,
    ) -> Judged:  # fmt: skip
        """Run and judge one artifact; with ``path``, a failing one is opened again to see where it goes wrong."""
        about = {"subject": self.subject.name, "name": name, "target": target, "faulty": faulty, "place": place}
        try:
            produced = outputs()
        except UlsamError as error:
            return Judged(**about, verdict="refused", said=(str(error).splitlines()[0],))
        report = self._check(produced, half)
        reasons = tuple(reason.text for reason in report.reasons)
        if path is not None and place and report.verdict is Verdict.FAIL:
            reasons = (*reasons, self._where(report, path))
        rules = frozenset(rule for rule, passed in RULES.items() if passes(passed, self._reference(), produced))
        return Judged(
            **about, verdict=report.verdict.value, error=report.error, rules=rules,
            named=self._named(place, reasons) if report.verdict is Verdict.FAIL and (path or half) else None,
            said=reasons,
        )  # fmt: skip

    def _named(self, place: str, reasons: tuple[str, ...]) -> bool | None:
        return names(place, reasons, self.subject.blocks) if place else None

    def _check(self, produced: Outputs, half: bool) -> Report:
        golden = self.subject.golden
        if not half:
            return check(golden, produced)
        if self._half is None:
            found = measure_floors(self.subject.captured, self.subject.fused, golden, "fp16")
            self._half = replace(golden, precision_floors={"fp16": found}).at("fp16")
        kept = self._half
        chosen = [golden.probes.index(probe) for probe in kept.probes]
        return check(kept, {name: array[chosen] for name, array in produced.items()})

    def _reference(self) -> Outputs:
        """What other tools compare with: PyTorch's own float32 outputs."""
        if not self._eager:
            self._eager = torch_run(self.subject.model, self.subject.golden, list(self.subject.golden.outputs))
        return self._eager

    def _where(self, report: Report, path: Path) -> str:
        """The sentence about the first module that differs, on the batch that a user's failure is looked for on."""
        golden = self.subject.golden
        evidence = Evidence(EvidenceLevel.EXECUTED, report.verdict, report.reasons, report)
        batch = worst_batch(evidence, golden, None)
        feed = {name: array[batch] for name, array in golden.inputs.items()}
        if batch.start not in self._points:
            self._points[batch.start] = module_points(self.subject.captured, feed)
        try:
            with opened(path, Ports.of(self.subject)) as runtime:
                return first_divergence(self._points[batch.start], runtime.values(feed)).sentence()
        except UlsamError as error:  # an engine that cannot show its inner values
            return str(error).splitlines()[0]


def names(place: str, reasons: tuple[str, ...], blocks: tuple[str, ...]) -> bool:
    """Whether a reason names ``place``: a block, or something inside it, exactly.

    A layer may also be named by the module right around it, or by its neighbour there: tools fuse them.
    """
    around = place if place in blocks else place.rpartition(".")[0] or place
    said = [word.split(" .. ")[0] for reason in reasons for word in reason.split("'")[1:2]]
    return any(f"{word}.".startswith(f"{around}.") for word in said)
