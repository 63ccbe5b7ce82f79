"""``ulsam-deploy verify BUNDLE --data``: how often each artifact is right on labelled data, and against what."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from ulsam_deploy.device.accuracy import Accuracy, Hits, Labelled, hits, judged, open_labelled
from ulsam_deploy.device.accuracy.measuring import class_count
from ulsam_deploy.device.bundle import Bundle
from ulsam_deploy.device.findings import Verdict
from ulsam_deploy.device.verify import Checked, runtime_for

Key = tuple[str, str]

COLUMNS = ("top-1", "top-5", "drop")


def accuracies(bundle: Bundle, checked: Sequence[Checked], arguments: argparse.Namespace) -> dict[Key, Accuracy]:
    """By target and precision, what every artifact that could run here gets right.

    Each is paired with the PyTorch network where ``--against`` gives its checkpoint; without, with the first fp32
    artifact that equals that network by its own check; where there is none, with nothing.
    """
    card = bundle.manifest.model
    data = open_labelled(arguments.data, card.inputs, class_count(card.outputs), card.preprocessing)
    found = {_key(item): _hits(bundle, item, data) for item in checked if item.evidence}
    name, partner = _partner(bundle, checked, found, data, arguments)
    return {key: judged(own, name, partner if own is not partner else None) for key, own in found.items()}


def _key(item: Checked) -> Key:
    return item.record.target, item.record.precision


def _hits(bundle: Bundle, item: Checked, data: Labelled) -> Hits:
    record = item.record
    with runtime_for(record.target)(bundle.files(record), record.inputs, record.outputs) as runtime:
        return hits(runtime.run, record.inputs, record.outputs, data)


def _partner(
    bundle: Bundle, checked: Sequence[Checked], found: Mapping[Key, Hits], data: Labelled, arguments: argparse.Namespace
) -> tuple[str, Hits | None]:
    if arguments.against:
        from ulsam_deploy.cli.arguments import model_options
        from ulsam_deploy.export.options import ExportOptions
        from ulsam_deploy.load import eager

        options = ExportOptions(arguments.against, **model_options(arguments))
        return eager.PARTNER, eager.of_card(options, bundle.manifest.model, data)
    for item in checked:
        if item.record.precision == "fp32" and item.evidence and item.evidence.verdict is Verdict.PASS:
            return " ".join(_key(item)), found[_key(item)]
    return "", None


def cells(accuracy: Accuracy | None) -> tuple[str, str, str]:
    """The row's end for :data:`COLUMNS`: shares in percent and the drop in points, each with its 95 % interval."""
    if accuracy is None:
        return "-", "-", "-"
    pair = accuracy.paired
    drop = "-"
    if pair:
        drop = f"{100 * pair.drop:+.2f} ({100 * pair.low:+.2f} to {100 * pair.high:+.2f}), p {pair.p:.2g}"
    return _share(accuracy.top1), _share(accuracy.top5), drop


def _share(share: Any) -> str:
    return f"{100 * share.value:.2f} % ({100 * share.low:.1f}-{100 * share.high:.1f})" if share else "-"


def sentence(found: Mapping[Key, Accuracy]) -> str:
    """What the columns mean, with the samples and the partner."""
    first = next(iter(found.values()))
    partner = next((accuracy.partner for accuracy in found.values() if accuracy.partner), "")
    text = f"Accuracy on {first.count} labelled samples, in brackets the 95 % interval"
    if partner:
        text += f"; drop: points of top-1 less than {partner} on the same samples, p by McNemar's exact test"
    return text + "."
