"""Pictures from files: decoded and resized with Pillow, converted by the stated preprocessing.

Pillow is imported with the first picture; arrays in ``.npy`` and ``.npz`` don't need it.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ulsam_deploy.device import codec, toml
from ulsam_deploy.device.arrays import Array
from ulsam_deploy.device.data_files import opened
from ulsam_deploy.device.errors import UnavailableError, UsageError
from ulsam_deploy.device.preprocessing import Preprocessing
from ulsam_deploy.device.shapes import shape_text
from ulsam_deploy.device.spelling import meant

#: Suffixes of files that are read as pictures.
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})
#: Modes whose pixels or palette have 8 bits per channel; Pillow would truncate the values of others.
EIGHT_BITS = frozenset({"1", "L", "P", "RGB", "RGBA", "LA", "PA", "CMYK", "YCbCr"})

#: Named preprocessings; ``imagenet`` is the one that torchvision's weights were trained with.
NAMED: Mapping[str, Preprocessing] = {
    "imagenet": Preprocessing(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), shorter_side=256),
    "unit": Preprocessing(),
    "unit-grey": Preprocessing(channels="L"),
}
TODO = f"state it with --preprocessing FILE.toml (or {', '.join(NAMED)}), or give float32 arrays as the network is fed"


def read_preprocessing(text: str) -> Preprocessing:
    """The preprocessing called ``text``, or that of the TOML file ``text``; raises :class:`UsageError`."""
    if text in NAMED:
        return NAMED[text]
    near = meant(text, NAMED)
    content = toml.read(
        Path(text),
        f"the preprocessing '{text}'" + (f" ({near})" if near else ""),
        expected="a TOML file with any of " + ", ".join(f.name for f in dataclasses.fields(Preprocessing)),
        todo="or use one of " + ", ".join(NAMED),
    )
    return from_mapping(content, f"'{text}'")


def from_mapping(given: Mapping[str, object], where: str) -> Preprocessing:
    """The preprocessing in ``given`` (a TOML table, a checkpoint's entry); missing keys have their defaults.

    Raises a :class:`UsageError` that starts with ``where`` for unknown keys, wrong types and impossible numbers.
    """
    defaults = codec.encode(Preprocessing(), where)
    return codec.decode(Preprocessing, {**defaults, **given}, where, UsageError).check()


def stated(preprocessing: Preprocessing | None, what: str) -> Preprocessing:
    """``preprocessing``; raises :class:`UsageError` if it is ``None``, because it must not be guessed for ``what``."""
    if preprocessing is None:
        raise UsageError(f"the preprocessing that turns {what} into the network's input is not stated", todo=TODO)
    return preprocessing


def read_image(file: Path, shape: tuple[int, ...], preprocessing: Preprocessing) -> Array:
    """The picture in ``file`` as one input of ``shape`` (without the batch): float32.

    The file's orientation tag is ignored, as data loaders for training ignore it. Raises :class:`UsageError` for a file
    that is not an 8-bit picture, and :class:`UnavailableError` without Pillow.
    """
    size = preprocessing.size(shape)
    try:
        from PIL import Image
    except ModuleNotFoundError as error:
        raise UnavailableError("pictures need Pillow, which is not installed", todo="pip install pillow") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with opened(file) as stream, Image.open(stream) as picture:
                if picture.mode not in EIGHT_BITS:
                    raise UsageError(f"'{file.name}' has pixels of mode {picture.mode}", expected="8 bits a channel")
                plain = picture.convert("L" if preprocessing.channels == "L" else "RGB")
            pixels = np.asarray(_resized(plain, size, preprocessing), np.uint8)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error).splitlines()[0]
        raise UsageError(f"the picture '{file}' cannot be read: {why}", expected="a whole picture file") from error
    if preprocessing.channels == "BGR":
        pixels = pixels[..., ::-1]
    normalized: Array = preprocessing.normalized(pixels.reshape(1, *size, -1))[0]
    return normalized


def _resized(picture: Any, size: tuple[int, int], preprocessing: Preprocessing) -> Any:
    """``picture`` at height x width ``size``: stretched, or scaled by its shorter side and cropped at the centre."""
    from PIL import Image

    how = Image.Resampling[preprocessing.interpolation.upper()]
    height, width = size
    if preprocessing.shorter_side is None:
        return picture if picture.size == (width, height) else picture.resize((width, height), how)
    short = min(picture.size)
    # The longer side is rounded down, as in torchvision.
    scaled = tuple(max(1, side * preprocessing.shorter_side // short) for side in picture.size)
    picture = picture if picture.size == scaled else picture.resize(scaled, how)
    left, top = round((scaled[0] - width) / 2), round((scaled[1] - height) / 2)
    if left < 0 or top < 0:
        raise UsageError(
            f"a shorter side of {preprocessing.shorter_side} is too small for a crop of {height} x {width}",
            expected="at least the network's input",
        )
    return picture.crop((left, top, left + width, top + height))


def read_pixels(array: Array, shape: tuple[int, ...], preprocessing: Preprocessing, what: str) -> Array:
    """uint8 pixels ``(H, W, C)`` or ``(N, H, W, C)`` (without C for ``L``) as inputs ``(N, *shape)``, float32.

    Nothing is resized. Raises a :class:`UsageError` that starts with ``what`` for another size.
    """
    height, width = preprocessing.size(shape)
    one = (height, width, len(preprocessing.channels))
    if array.shape[-2:] == one[:2] and one[2] == 1:
        array = array[..., None]
    if array.shape[-3:] != one or array.ndim not in (3, 4) or not array.size:
        given = shape_text(array.shape)
        raise UsageError(
            f"{what} holds 8-bit pixels of shape {given}",
            expected="Nx" + shape_text(one) + f", channels last, in the order {preprocessing.channels}",
        )
    return preprocessing.normalized(array.reshape(-1, *one))
