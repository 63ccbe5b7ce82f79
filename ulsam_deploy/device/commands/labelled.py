"""``ulsam-deploy verify BUNDLE --data``: how often each artifact is right on labelled data, and against what."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ulsam_deploy.device.accuracy import Accuracy, Hits, Labelled, hits, judged, open_labelled
from ulsam_deploy.device.accuracy.measuring import Share, class_count
from ulsam_deploy.device.bundle import Bundle
from ulsam_deploy.device.findings import Verdict
from ulsam_deploy.device.verify import Checked, runtime_for

Key = tuple[str, str]
#: What artifacts are paired with: its name, and what it gets right; nothing is ``"", None``.
Named = tuple[str, Hits | None]
#: Each artifact, and what it gets right where it could run.
Seen = Sequence[tuple[Checked, Hits | None]]
Partner = Callable[[Bundle, Seen, Labelled], Named]

COLUMNS = ("top-1", "top-5", "drop")


def accuracies(bundle: Bundle, checked: Sequence[Checked], data: Path, partner: Partner) -> dict[Key, Accuracy]:
    """By target and precision, what every artifact that could run here gets right, paired with ``partner``."""
    card = bundle.manifest.model
    samples = open_labelled(data, card.inputs, class_count(card.outputs), card.preprocessing)
    seen = [(item, _hits(bundle, item, samples) if item.evidence else None) for item in checked]
    name, other = partner(bundle, seen, samples)
    found = {_key(item): own for item, own in seen if own is not None}
    return {key: judged(own, name, other if own is not other else None) for key, own in found.items()}


def first_float(_bundle: Bundle, seen: Seen, _data: Labelled) -> Named:
    """The first fp32 artifact that equals the network by its own check; nothing where there is none."""
    for item, own in seen:
        if item.record.precision == "fp32" and item.evidence and item.evidence.verdict is Verdict.PASS:
            return " ".join(_key(item)), own
    return "", None


def _key(item: Checked) -> Key:
    return item.record.target, item.record.precision


def _hits(bundle: Bundle, item: Checked, data: Labelled) -> Hits:
    record = item.record
    with runtime_for(record.target)(bundle.files(record), record.inputs, record.outputs) as runtime:
        return hits(runtime.run, record.inputs, record.outputs, data)


def cells(accuracy: Accuracy | None) -> tuple[str, str, str]:
    """The row's end for :data:`COLUMNS`: shares in percent and the drop in points, each with its 95 % interval."""
    if accuracy is None:
        return "-", "-", "-"
    pair = accuracy.paired
    drop = "-"
    if pair:
        drop = f"{100 * pair.drop:+.2f} ({100 * pair.low:+.2f} to {100 * pair.high:+.2f}), p {pair.p:.2g}"
    return _share(accuracy.top1), _share(accuracy.top5), drop


def _share(share: Share | None) -> str:
    return percent(share.value, share.low, share.high) if share else "-"


def percent(value: float, low: float, high: float) -> str:
    """A share with its 95 % interval."""
    return f"{100 * value:.2f} % ({100 * low:.1f}-{100 * high:.1f})"


def sentence(found: Mapping[Key, Accuracy]) -> str:
    """What the columns mean, with the samples and the partner."""
    first = next(iter(found.values()))
    partner = next((accuracy.partner for accuracy in found.values() if accuracy.partner), "")
    text = f"Accuracy on {first.count} labelled samples, in brackets the 95 % interval"
    if partner:
        text += f"; drop: points of top-1 less than {partner} on the same samples, p by McNemar's exact test"
    return text + "."
