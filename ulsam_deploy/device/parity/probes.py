"""Seeded probe inputs: natural-looking ones, and adversarial ones that push attention to its extremes. numpy only.

All values are in the range that image networks are trained on after normalisation: mean near 0, deviation near 1. Most
are multiples of 1/64, about the step of a normalised 8-bit image, which compresses well; the tiny and the noise probes
keep full mantissas, so that an engine that rounds its inputs is detected.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ulsam_deploy.device.arrays import Array
from ulsam_deploy.device.errors import UsageError

Kind = Callable[[np.random.Generator, tuple[int, ...]], Array]

_STEP = 64.0


def make_probes(
    shapes: Mapping[str, Sequence[int]], *, seed: int = 0, count: int = 32, batch: int = 1
) -> tuple[dict[str, Array], tuple[str, ...]]:
    """Make probes for inputs of the given shapes, and a name for each probe.

    Natural and adversarial probes alternate, each adversarial kind once, so that any batch mixes different kinds; the
    remaining probes are natural. For images the axes are C x H x W; other ranks work too: the first axis counts as
    channels where there are several axes, the rest as space.

    Args:
        shapes: The shape of each input by name, without the batch.
        seed: The seed of the random generator.
        count: The number of probes P, rounded up to a multiple of ``batch``.
        batch: The batch size.

    Returns:
        Float32 arrays (P, *shape) by input name, and P names such as ``natural-3`` or ``huge``.

    Raises:
        UsageError: ``count``, ``batch`` or a size is not positive.
    """
    if count < 1 or batch < 1 or not shapes or any(size < 1 for shape in shapes.values() for size in shape):
        raise UsageError(
            f"cannot make {count} probes for batches of {batch} and shapes {dict(shapes)}",
            expected="at least one input, and positive numbers",
        )
    names = _names(-(-count // batch) * batch)
    inputs = {}
    for i, (name, shape) in enumerate(shapes.items()):
        inputs[name] = np.stack([_one(probe, tuple(shape), [seed, i, p]) for p, probe in enumerate(names)])
    return inputs, names


def is_built_in(probe: str) -> bool:
    """Whether a probe is one of those that every network gets, and not a real input of the user's."""
    return not probe.startswith(("yours-", "held-out-"))


def _names(count: int) -> tuple[str, ...]:
    kinds = list(ADVERSARIAL)[: count // 2]
    naturals = [f"natural-{i}" for i in range(count - len(kinds))]
    turns = [name for pair in zip(naturals, kinds) for name in pair]
    return tuple(turns + naturals[len(kinds) :])


def _one(probe: str, shape: tuple[int, ...], seed: list[int]) -> Array:
    """One probe as float32 of ``shape``, made as channels x space (at least one axis each)."""
    work = (1,) * (2 - len(shape)) + shape
    made = ADVERSARIAL.get(probe, natural)(np.random.default_rng(seed), work)
    return np.array(made.reshape(shape), dtype=np.float32, order="C")


def natural(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """A 1/f texture with one soft-edged half plane and three blobs, each coloured; mean 0, deviation 1, rounded."""
    channels, space = shape[0], shape[1:]
    where = _grid(space)
    picture = 0.7 * _texture(rng, shape)
    normal = rng.normal(size=len(space))
    edge = np.tensordot(normal / np.linalg.norm(normal), where - rng.uniform(-0.3, 0.3), 1)
    picture += _colours(rng, channels, space) * np.tanh(8.0 * edge)
    for _ in range(3):
        centre = rng.uniform(-0.9, 0.9, size=(len(space), *(1,) * len(space)))
        blob = np.exp(-np.square(where - centre).sum(0) / (2.0 * rng.uniform(0.08, 0.4) ** 2))
        picture += 2.0 * _colours(rng, channels, space) * blob
    return _rounded(_standard(picture))


def _grid(space: tuple[int, ...]) -> Array:
    """Coordinates -1..1 along each axis, (axes, *space)."""
    return np.stack(np.meshgrid(*(np.linspace(-1.0, 1.0, size) for size in space), indexing="ij"))


def _colours(rng: np.random.Generator, channels: int, space: tuple[int, ...]) -> Array:
    return rng.normal(size=(channels, *(1,) * len(space)))


def _texture(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Noise whose amplitude falls as 1/frequency, as in photographs; channels share half of it."""
    axes = tuple(range(1, len(shape)))
    white = rng.normal(size=shape) + rng.normal(size=(1, *shape[1:]))
    radius = np.sqrt(sum(np.square(f) for f in np.meshgrid(*map(np.fft.fftfreq, shape[1:]), indexing="ij")))
    spectrum = np.fft.fftn(white, axes=axes) / np.maximum(radius, 1.0 / max(shape[1:]))
    return _standard(np.real(np.fft.ifftn(spectrum, axes=axes)))


def _standard(picture: Array) -> Array:
    spread = float(picture.std())
    return (picture - picture.mean()) / spread if spread > 0 else picture


def _rounded(picture: Array) -> Array:
    return np.round(picture * _STEP) / _STEP


def _constant(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return np.broadcast_to(_rounded(_colours(rng, shape[0], shape[1:])), shape)


def _zero(_: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return np.zeros(shape)


def _tiny(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return 1e-3 * natural(rng, shape)


def _huge(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return 50.0 * natural(rng, shape)


def _negative(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return -np.abs(natural(rng, shape))


def _saturated(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Values far outside the range that ReLU6 passes, on both sides."""
    return np.where(natural(rng, shape) > 0, 12.0, -12.0)


def _noise(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    return rng.uniform(-np.sqrt(3.0), np.sqrt(3.0), size=shape)


def _impulse(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """One bright element in each channel at one place: attention at its most peaked."""
    picture = np.zeros(shape)
    picture.reshape(shape[0], -1)[:, rng.integers(int(np.prod(shape[1:])))] = 30.0
    return picture


def _checkerboard(_: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Values with ties everywhere, changed by a max pool of the wrong position or size."""
    parity = np.indices(shape[1:]).sum(0) % 2
    return np.broadcast_to(np.where(parity == 0, 1.0, -1.0), shape)


def _gradient(_: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """A ramp, steeper along the last axis than the others, so that a transposed map differs."""
    steepness = 0.4 ** np.arange(len(shape) - 2, -1, -1)
    return _rounded(np.broadcast_to(1.5 * np.tensordot(steepness, _grid(shape[1:]), 1), shape))


def _spot(*corner: float) -> Kind:
    """A bright spot near one corner of the last two axes (or of the only one)."""

    def make(_: np.random.Generator, shape: tuple[int, ...]) -> Array:
        where = _grid(shape[1:])[-2:]
        centre = np.reshape(corner[-len(where) :], (-1, *(1,) * len(shape[1:])))
        spot = np.exp(-np.square(where - centre).sum(0) / (2.0 * 0.15**2))
        return np.broadcast_to(_rounded(6.0 * spot - 0.5), shape)

    return make


#: Each kind once, the most revealing first: a small count omits the last ones.
ADVERSARIAL: Mapping[str, Kind] = {
    "impulse": _impulse,
    "huge": _huge,
    "constant": _constant,
    "tiny": _tiny,
    "gradient": _gradient,
    "negative": _negative,
    "saturated": _saturated,
    "checkerboard": _checkerboard,
    "noise": _noise,
    "spot-top-left": _spot(-0.5, -0.5),
    "spot-bottom-right": _spot(0.5, 0.5),
    "zero": _zero,
    "spot-top-right": _spot(-0.5, 0.5),
    "spot-bottom-left": _spot(0.5, -0.5),
}
