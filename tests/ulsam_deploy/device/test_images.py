"""Pictures from files: decoded, resized and normalized as stated, and nothing guessed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ulsam_deploy.device import images
from ulsam_deploy.device.errors import UsageError
from ulsam_deploy.device.images import read_image, read_pixels, read_preprocessing
from ulsam_deploy.device.preprocessing import Preprocessing
from ulsam_deploy.inputs import probes

Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")


def picture(path: Path, height: int, width: int, mode: str = "RGB") -> np.ndarray:
    random = np.random.default_rng(0)
    shape = (height, width) if mode in ("L", "I;16") else (height, width, len(mode))
    array = random.integers(0, 256, shape).astype(np.uint16 if mode == "I;16" else np.uint8)
    Image.fromarray(array).save(path)
    return array


def test_a_picture_of_the_right_size_is_taken_as_it_is(tmp_path: Path) -> None:
    array = picture(tmp_path / "a.png", 6, 8)
    found = read_image(tmp_path / "a.png", (3, 6, 8), Preprocessing())
    np.testing.assert_allclose(found, array.transpose(2, 0, 1) / 255, atol=1e-6)


def test_blue_first_and_grey(tmp_path: Path) -> None:
    array = picture(tmp_path / "a.png", 6, 8)
    rgb = read_image(tmp_path / "a.png", (3, 6, 8), Preprocessing())
    bgr = read_image(tmp_path / "a.png", (3, 6, 8), Preprocessing(channels="BGR"))
    np.testing.assert_array_equal(bgr, rgb[::-1])
    grey = read_image(tmp_path / "a.png", (1, 6, 8), Preprocessing(channels="L"))
    np.testing.assert_allclose(grey[0], (array @ [0.299, 0.587, 0.114]) / 255, atol=1 / 255)


def test_the_middle_is_cut_out_or_the_picture_is_stretched(tmp_path: Path) -> None:
    array = picture(tmp_path / "a.png", 10, 20)
    cut = read_image(tmp_path / "a.png", (3, 6, 6), Preprocessing(shorter_side=10))
    np.testing.assert_allclose(cut, array[2:8, 7:13].transpose(2, 0, 1) / 255, atol=1e-6)
    stretched = read_image(tmp_path / "a.png", (3, 10, 10), Preprocessing(interpolation="nearest"))
    right = np.asarray(Image.open(tmp_path / "a.png").resize((10, 10), Image.Resampling.NEAREST))
    np.testing.assert_allclose(stretched, right.transpose(2, 0, 1) / 255, atol=1e-6)


def test_as_torchvision_resizes_and_crops(tmp_path: Path) -> None:
    """Resize(8) rounds the longer side of 10 x 17 down to 13."""
    picture(tmp_path / "a.png", 10, 17)
    found = read_image(tmp_path / "a.png", (3, 8, 8), Preprocessing(shorter_side=8))
    scaled = Image.open(tmp_path / "a.png").resize((13, 8), Image.Resampling.BILINEAR)
    left = round((13 - 8) / 2)
    right = np.asarray(scaled)[:, left : left + 8]
    np.testing.assert_allclose(found, right.transpose(2, 0, 1) / 255, atol=1e-6)


def test_sixteen_bits_are_not_cut_short_unseen(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", 6, 8, "I;16")
    with pytest.raises(UsageError, match="pixels of mode I;16"):
        read_image(tmp_path / "a.png", (1, 6, 8), Preprocessing(channels="L"))


def test_a_broken_picture_and_one_too_small_are_refused(tmp_path: Path) -> None:
    picture(tmp_path / "a.png", 6, 8)
    data = (tmp_path / "a.png").read_bytes()
    (tmp_path / "b.png").write_bytes(data[: len(data) // 2])
    (tmp_path / "c.png").write_bytes(b"not a picture")
    for name in ("b.png", "c.png"):
        with pytest.raises(UsageError, match="cannot be read"):
            read_image(tmp_path / name, (3, 6, 8), Preprocessing())
    with pytest.raises(UsageError, match="too small for a crop of 6 x 8"):
        read_image(tmp_path / "a.png", (3, 6, 8), Preprocessing(shorter_side=4))


def test_nothing_is_guessed_about_pictures_and_uint8_arrays(tmp_path: Path) -> None:
    array = picture(tmp_path / "a.png", 6, 8)
    with pytest.raises(UsageError, match="is not stated") as refused:
        probes.read(tmp_path, {"x": (3, 6, 8)})
    assert "--preprocessing" in str(refused.value)
    found, names = probes.read(tmp_path, {"x": (3, 6, 8)}, Preprocessing())
    assert names == ("yours-a",)
    np.savez(tmp_path / "a.npz", x=array[None])
    again, _ = probes.read(tmp_path / "a.npz", {"x": (3, 6, 8)}, Preprocessing())
    np.testing.assert_array_equal(found["x"], again["x"])


@pytest.mark.parametrize("shape", [(6, 8, 3), (5, 6, 8, 3)])
def test_pixels_of_one_or_more_pictures(shape: tuple[int, ...]) -> None:
    array = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    assert read_pixels(array, (3, 6, 8), Preprocessing(), "it").shape == (5 if len(shape) == 4 else 1, 3, 6, 8)
    with pytest.raises(UsageError, match="it holds 8-bit pixels of shape"):
        read_pixels(array, (3, 6, 7), Preprocessing(), "it")


def test_a_file_states_what_differs_from_the_default(tmp_path: Path) -> None:
    path = tmp_path / "how.toml"
    path.write_text('channels = "BGR"\nmean = [104, 117, 123]\nrange = [0, 255]\n')
    assert read_preprocessing(str(path)) == Preprocessing("BGR", (0.0, 255.0), (104.0, 117.0, 123.0))
    assert read_preprocessing("imagenet") is images.NAMED["imagenet"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('chanels = "BGR"', "chanels"),
        ('channels = "RGBA"', "RGBA"),
        ("std = [0]", "std is"),
        ("mean = ", "isn't valid TOML"),
        ("shorter_side = 0", "shorter_side"),
    ],
)
def test_a_file_that_says_something_else_is_refused(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "how.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=words):
        read_preprocessing(str(path))


def test_a_name_that_is_no_file_lists_the_names() -> None:
    with pytest.raises(UsageError, match="can't be read") as refused:
        read_preprocessing("imagenette")
    assert "imagenet, unit" in str(refused.value)


def test_the_command_line_takes_it_and_says_what_is_wrong() -> None:
    from ulsam_deploy.cli.export import options_from
    from ulsam_deploy.cli.parser import build_parser

    arguments = build_parser(["export"]).parse_args(["export", "m.pt", "--preprocessing", "imagenet"])
    assert options_from(arguments).preprocessing == images.NAMED["imagenet"]
    with pytest.raises(UsageError, match=r"--preprocessing: .* can't be read"):
        build_parser(["export"]).parse_args(["export", "m.pt", "--preprocessing", "nothing.toml"])
