"""The shipped checkpoint is what its card says, on an evaluation set that is drawn anew."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ulsam_deploy.load.checkpoint import build, identify, read
from ulsam_deploy.models import reference
from ulsam_deploy.models.digits import CLASSES, SIZE, _instances, cluttered_digits

FOLDER = Path(reference.__file__).parent
CARD = (FOLDER / "cluttered_digits.md").read_text(encoding="utf-8")
SLICE = 400


def stated(name: str) -> float:
    return float(re.search(rf"^\| {re.escape(name)} \| ([\d.]+) \|$", CARD, re.MULTILINE)[1])


def stated_blocks() -> dict[str, tuple[float, float, float]]:
    """Per block: accuracy without it, mean peak and largest peak."""
    rows = re.findall(r"^\| `(\S+)` \| \d+ x \d+ \| ([\d.]+) \| ([\d.]+) / ([\d.]+) \|", CARD, re.MULTILINE)
    return {path: (float(without), float(mean), float(largest)) for path, without, mean, largest in rows}


@pytest.fixture(scope="module")
def model():
    found = read(FOLDER / reference.CHECKPOINT)
    return build(found, *identify(found))


@pytest.fixture(scope="module")
def images():
    return reference.evaluation_set(SLICE)


def test_digits_follow_from_the_seed() -> None:
    first, labels = cluttered_digits("train", 12, 3)
    assert (first.shape, first.dtype, labels.dtype) == ((12, 1, SIZE, SIZE), np.float32, np.int64)
    assert 0 <= first.min() < 0.01
    assert 0.6 < first.max() <= 1
    again, _ = cluttered_digits("train", 5, 3)
    assert np.array_equal(first[:5], again)
    assert not np.array_equal(first, cluttered_digits("train", 12, 4)[0])
    assert len(set(cluttered_digits("train", 200, 3)[1].tolist())) == CLASSES


def test_splits_share_no_digit() -> None:
    train, held_out = (_instances(split)[0] for split in ("train", "held-out"))
    assert len(train) + len(held_out) == 1797
    assert len(held_out) > 300
    assert not {digit.tobytes() for digit in train} & {digit.tobytes() for digit in held_out}


def test_file_is_small_and_recognized() -> None:
    path = FOLDER / reference.CHECKPOINT
    assert path.stat().st_size < 2_000_000
    found = read(path)
    assert found.metadata["ulsam_deploy"]["input"] == [1, SIZE, SIZE]
    assert found.notes == ()
    network, config = identify(found)
    assert (network.name, dict(config)) == ("mobilenet_v2", reference.CONFIG)
    assert dict(network.recognize({key: tuple(value.shape) for key, value in found.tensors.items()})) == config


def test_accuracy_on_digits_it_never_saw(model: Any, images: Any) -> None:
    measured = reference.accuracy(model, *images)
    assert measured >= 0.95
    assert stated("accuracy") >= 0.95
    assert measured == pytest.approx(stated("accuracy"), abs=0.025)


def test_card_states_size_and_work(model: Any) -> None:
    assert stated("parameters") == sum(parameter.numel() for parameter in model.parameters())
    assert stated("MACs") == reference.multiply_accumulates(model)


def test_card_states_what_attention_does(model: Any, images: Any) -> None:
    assert list(stated_blocks()) == reference.attention_paths(model)
    all_removed = reference.accuracy(reference.without_attention(model), *images)
    assert all_removed == pytest.approx(stated("accuracy, all attention removed"), abs=0.06)
    for path, (without, _, _) in stated_blocks().items():
        ablated = reference.without_attention(model, path)
        assert reference.accuracy(ablated, *images) == pytest.approx(without, abs=0.05)


def test_card_states_how_peaky_attention_is(model: Any, images: Any) -> None:
    for peak in reference.peaks(model, images[0]):
        _, mean, largest = stated_blocks()[peak.path]
        assert peak.mean == pytest.approx(mean, rel=0.1)
        assert 0.6 * largest <= peak.maximum <= largest * 1.001
        assert 1 / peak.positions <= peak.mean <= peak.maximum <= 1


def test_attention_is_diffuse_in_one_block_and_peaky_in_another(model: Any, images: Any) -> None:
    means = [peak.mean for peak in reference.peaks(model, images[0][:100])]
    assert min(means) < 0.05
    assert max(means) > 0.2


def test_removing_a_block_removes_that_block_alone(model: Any, images: Any) -> None:
    part = torch.from_numpy(images[0][:4])
    paths = reference.attention_paths(model)
    assert len(paths) == 4
    outputs = [reference.without_attention(model, path)(part) for path in paths] + [model(part)]
    for number, output in enumerate(outputs):
        assert not any(torch.equal(output, other) for other in outputs[:number])
    assert reference.attention_paths(reference.without_attention(model, paths[0])) == paths[1:]


@pytest.mark.slow
def test_whole_card_is_as_measured(model: Any) -> None:
    measured, written = (re.findall(r"\d+(?:\.\d+)?", text) for text in (reference.card(model), CARD))
    assert [*map(float, measured)] == pytest.approx([*map(float, written)], rel=0.02, abs=0.003)
