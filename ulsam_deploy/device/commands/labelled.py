"""``ulsam-deploy verify BUNDLE --data``: the accuracy of each artifact on labelled data, compared with a partner's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ulsam_deploy.device.accuracy import Accuracy, Hits, Labelled, hits, judged, open_labelled
from ulsam_deploy.device.accuracy.measuring import Share, class_count
from ulsam_deploy.device.arrays import ArrayMap
from ulsam_deploy.device.bundle import Bundle, read_bundle
from ulsam_deploy.device.elsewhere import job
from ulsam_deploy.device.elsewhere.limits import Limits
from ulsam_deploy.device.engines import runtime_for
from ulsam_deploy.device.errors import UlsamError
from ulsam_deploy.device.findings import Verdict
from ulsam_deploy.device.verify import Checked, bounds, provider_of

Key = tuple[str, str]
#: What artifacts are compared with: its name, and the samples it classifies correctly; ``"", None`` for nothing.
Named = tuple[str, Hits | None]
#: Each artifact, and the samples it classifies correctly if it could run.
Seen = Sequence[tuple[Checked, Hits | None]]
Partner = Callable[[Bundle, Seen, Labelled], Named]

COLUMNS = ("top-1", "top-5", "drop")


@dataclass(frozen=True)
class Labels:
    """A request to run one artifact of the bundle in the folder ``bundle`` on the labelled ``data``."""

    bundle: Path
    target: str
    precision: str
    data: Path
    provider: str


@dataclass(frozen=True)
class Right:
    """Which samples are right, as in :class:`Hits`, as an array map."""

    hits: ArrayMap


def accuracies(
    bundle: Bundle, checked: Sequence[Checked], data: Path, partner: Partner, limits: Limits, provider: str = ""
) -> tuple[list[Checked], dict[Key, Accuracy]]:
    """The accuracy of every artifact that could run here, in a process of its own and compared with ``partner``.

    Artifacts whose engine has the ``provider`` run on it.

    Returns:
        ``checked``, with the errors of artifacts that could not run on the data; the accuracy by target and precision.
    """
    samples = _samples(bundle, data)
    seen = [_seen(bundle, item, data, samples.count, limits, provider) for item in checked]
    name, other = partner(bundle, seen, samples)
    found = {_key(item): own for item, own in seen if own is not None}
    right = {key: judged(own, name, other if own is not other else None) for key, own in found.items()}
    return [item for item, _ in seen], right


def _samples(bundle: Bundle, data: Path) -> Labelled:
    card = bundle.manifest.model
    return open_labelled(data, card.inputs, class_count(card.outputs), card.preprocessing)


def first_float(_bundle: Bundle, seen: Seen, _data: Labelled) -> Named:
    """The first fp32 artifact that passed its parity check; nothing if there is none."""
    for item, own in seen:
        if item.record.precision == "fp32" and item.evidence and item.evidence.verdict is Verdict.PASS:
            return " ".join(_key(item)), own
    return "", None


def _key(item: Checked) -> Key:
    return item.record.target, item.record.precision


def _seen(
    bundle: Bundle, item: Checked, data: Path, count: int, limits: Limits, asked: str
) -> tuple[Checked, Hits | None]:
    """The artifact and what it gets right; the timeout of a run applies to each of ``count`` samples."""
    if item.evidence is None:
        return item, None
    record, engine = item.record, runtime_for(item.record.target)
    provider = provider_of(engine, asked)
    limits = replace(bounds(engine, limits, provider), seconds=limits.seconds * count)
    labels = Labels(bundle.root, record.target, record.precision, data.absolute(), provider)
    try:
        found = job.do(_right, labels, limits, f"{engine.name} on {record.files[0].path} with the labelled data").hits
    except UlsamError as error:
        return replace(item, error=error), None
    return item, Hits(found["top1"], found.get("top5"))


def _right(asked: Labels) -> Right:
    """The part of :func:`_seen` that runs in the other process."""
    bundle = read_bundle(asked.bundle)
    record = bundle.artifact(asked.target, asked.precision)
    engine = runtime_for(record.target)
    with engine(bundle.files(record), record.inputs, record.outputs, provider=asked.provider) as runtime:
        found = hits(runtime.run, record.inputs, record.outputs, _samples(bundle, asked.data))
    return Right({"top1": found.top1, **({} if found.top5 is None else {"top5": found.top5})})


def cells(accuracy: Accuracy | None) -> tuple[str, str, str]:
    """The cells for :data:`COLUMNS`: accuracies in percent and the drop in points, each with its 95 % interval."""
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
