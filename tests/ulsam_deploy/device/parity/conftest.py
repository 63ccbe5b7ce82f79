"""A small network with two ULSAM blocks in plain numpy: a float64 reference, float32 engines, and faults on demand."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from ulsam_deploy.device.parity import Golden, make_probes

BLOCKS = ("features.1.attention", "features.3.attention")
SUBSPACES = (4, 2)

#: A network whose scores are not all below zero, so that no fault of the attention is without effect.
SEED = 4


@dataclass(frozen=True)
class Engine:
    """How a run computes: the dtype, the order of sums, batch splits, folding; and what it does wrong."""

    dtype: Any = np.float64
    order: int | None = None
    chunk: int | None = None
    batch: int | None = None
    wide: bool = False
    dense: bool = False
    faults: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Toy:
    """Weights of the network; ``run`` is the only thing that computes."""

    weights: dict[str, np.ndarray]

    def run(self, x: np.ndarray, engine: Engine) -> dict[str, np.ndarray]:
        size = engine.batch or len(x)
        parts = [self._batch(x[i : i + size], engine) for i in range(0, len(x), size)]
        return {"logits": np.concatenate(parts)}

    def _batch(self, x: np.ndarray, e: Engine) -> np.ndarray:
        w = {name: array.astype(e.dtype) for name, array in self.weights.items()}
        if "rounded" in e.faults:
            w = {name: _rounded(array, e.faults["rounded"]) for name, array in w.items()}
        if "weight" in e.faults:
            w["expand"][0, 1] *= e.dtype(e.faults["weight"])
        h = np.clip(_linear(x.astype(e.dtype), w["stem"], e), 0, 100 if "relu" in e.faults else 6)
        h = _attention(h, w, 0, e)
        h = np.clip(_linear(h, w["expand"], e), 0, 6)
        n, c, hh, ww = h.shape
        h = h.reshape(n, c, hh // 2, 2, ww // 2, 2).mean((3, 5), dtype=np.float64 if e.wide else e.dtype)
        h = _attention(h.astype(e.dtype), w, 1, e)
        h = _linear(h, w["head"], e)
        if e.dense:
            return h
        return h.mean((2, 3)) + w["bias"]


def _rounded(array: np.ndarray, bits: int) -> np.ndarray:
    step = np.abs(array).max() / 2 ** (bits - 1)
    return np.round(array / step) * step


def _linear(x: np.ndarray, w: np.ndarray, e: Engine) -> np.ndarray:
    """A 1x1 convolution, its channels summed in the engine's order, in chunks, or in float64 rounded once (fma)."""
    if e.wide:
        return np.einsum("oc,nchw->nohw", w.astype(np.float64), x.astype(np.float64)).astype(e.dtype)
    channels = np.arange(w.shape[1])
    if e.order is not None:
        channels = np.random.default_rng(e.order).permutation(channels)
    size = e.chunk or len(channels)
    parts = [channels[i : i + size] for i in range(0, len(channels), size)]
    total = sum(np.einsum("oc,nchw->nohw", w[:, p], x[:, p]) for p in parts)
    return np.asarray(total, dtype=e.dtype)


def _attention(x: np.ndarray, w: dict[str, np.ndarray], b: int, e: Engine) -> np.ndarray:
    """ULSAM: gate (depthwise affine, ReLU), 3x3 max pool, scores, ReLU, softmax over the map, ``x + a x``."""
    faults = e.faults if e.faults.get("block", b) == b else {}
    n, c, h, wd = x.shape
    g = SUBSPACES[b]
    gated = np.maximum(x * w[f"scale{b}"][:, None, None] + w[f"shift{b}"][:, None, None], 0)
    pooled = gated if "pool" in faults else _max_pool(gated)
    scores = np.einsum("ngchw,gc->nghw", pooled.reshape(n, g, c // g, h, wd), w[f"score{b}"].reshape(g, c // g))
    scores = (scores if "scores" in faults else np.maximum(scores, 0)).reshape(n, g, h * wd)
    exp = np.exp(scores - scores.max(2, keepdims=True))
    a = exp * (1 / exp.sum(2, keepdims=True)) if e.order else exp / exp.sum(2, keepdims=True)
    a = _faulty(a.reshape(n, g, h, wd), faults)
    a = np.repeat(a, c // g, axis=1).astype(e.dtype)
    return x * a if "residual" in faults else x + a * x


def _faulty(a: np.ndarray, faults: dict[str, Any]) -> np.ndarray:
    a = a.copy()
    if "dead" in faults:
        a *= 1 - faults["dead"]
    if "subspace" in faults:
        a[:, faults["subspace"]] = 0
    if "uniform" in faults:
        a[:] = 1 / (a.shape[2] * a.shape[3])
    if "transposed" in faults:
        a = np.swapaxes(a, 2, 3).reshape(a.shape)
    if "swapped" in faults:
        a = a[:, ::-1]
    if "steps" in faults:
        a = np.round(a * faults["steps"]) / faults["steps"]
    return a


def _max_pool(x: np.ndarray) -> np.ndarray:
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
    return np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3)).max((4, 5))


def make_toy(seed: int) -> Toy:
    rng = np.random.default_rng(seed)
    weights = {
        "stem": rng.normal(size=(8, 3)),
        "expand": rng.normal(size=(16, 8)) / 2,
        "head": rng.normal(size=(10, 16)) / 3,
        "bias": rng.normal(size=10),
    }
    for b, channels in enumerate((8, 16)):
        weights[f"scale{b}"] = rng.normal(size=channels)
        weights[f"shift{b}"] = rng.normal(size=channels)
        weights[f"score{b}"] = rng.normal(size=channels)
    return Toy(weights)


CONTROL = (
    Engine(np.float32),
    Engine(np.float32, order=1, chunk=3),
    Engine(np.float32, batch=1, wide=True),
)


@dataclass(frozen=True)
class Case:
    """A network with its golden set. ``run(**engine)`` computes on the golden set's own probes."""

    toy: Toy
    golden: Golden
    engine: Engine

    def run(self, dtype: Any = np.float32, **engine: Any) -> dict[str, np.ndarray]:
        return self.toy.run(self.golden.inputs["image"], replace(self.engine, dtype=dtype, **engine))

    def faulty(self, **faults: Any) -> dict[str, np.ndarray]:
        return self.run(order=7, chunk=2, faults=faults)


def make_case(
    seed: int = SEED, count: int = 24, size: tuple[int, int] = (16, 12), dense: bool = False, flat: int | None = None
) -> Case:
    """``flat``: the block whose scores never exceed zero, so that its attention is uniform on every input."""
    toy, engine = make_toy(seed), Engine(dense=dense)
    if flat is not None:
        toy.weights[f"score{flat}"] = -np.abs(toy.weights[f"score{flat}"])
    inputs, names = make_probes({"image": (3, *size)}, seed=seed, count=count)
    x = inputs["image"]
    ablations = [toy.run(x, replace(engine, faults={"dead": 1, "block": b})) for b in range(len(BLOCKS))]
    uniform_ablations = [toy.run(x, replace(engine, faults={"uniform": 1, "block": b})) for b in range(len(BLOCKS))]
    controls = [toy.run(x, replace(variant, dense=dense)) for variant in CONTROL]
    golden = Golden.build(
        inputs,
        toy.run(x, engine),
        ablations,
        controls,
        uniform_ablations=uniform_ablations,
        blocks=BLOCKS,
        probes=names,
    )
    return Case(toy, golden, engine)


@pytest.fixture(scope="session")
def case() -> Case:
    return make_case()


@pytest.fixture(scope="session")
def new_case() -> Any:
    return make_case
