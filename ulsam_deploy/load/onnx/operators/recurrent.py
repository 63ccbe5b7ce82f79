"""The recurrent ONNX operators, implemented in torch.

torch's own operator is used where it says the same, because converters know it; otherwise every step is written out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ulsam_deploy.device.arrays import Array
from ulsam_deploy.load.onnx.errors import NotReadError
from ulsam_deploy.load.onnx.known import ints
from ulsam_deploy.load.onnx.operators.values import Attributes, Meaning, known, tensor

_Step = Callable[[Tensor, tuple[Tensor, ...]], tuple[Tensor, ...]]

_ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "relu": F.relu,
}
_DEFAULTS = {"LSTM": ["Sigmoid", "Tanh", "Tanh"], "GRU": ["Sigmoid", "Tanh"], "RNN": ["Tanh"]}
_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
#: Where torch has each of ONNX's gates: input, output, forget, cell; and update, reset, hidden.
_ORDER = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2), "RNN": (0,)}
#: The longest sequence whose steps are written out, each of about ten operators.
_MOST_STEPS = 256


def _recurrent(
    a: Attributes,
    x: Tensor,
    w: Tensor,
    r: Tensor,
    b: Tensor | None = None,
    lengths: Array | None = None,
    h: Tensor | Array | None = None,
    c: Tensor | Array | None = None,
    peep: Tensor | None = None,
) -> tuple[Tensor, ...]:
    by_batch = bool(a.get("layout", 0))
    x = x.transpose(0, 1) if by_batch else x
    _check(a, x, lengths)
    states = 2 if a["op"] == "LSTM" else 1
    zeros = torch.zeros(w.shape[0], x.shape[1], a["hidden_size"], dtype=x.dtype)
    given = [zeros if state is None else tensor(state, x.dtype) for state in (h, c)[:states]]
    given = [state.transpose(0, 1) if by_batch and state is not zeros else state for state in given]
    torchs = _by_torch(a, x, w, r, b, given) if peep is None else None
    y, last = torchs if torchs is not None else _written_out(a, x, (w, r, b, peep), given)
    if by_batch:
        return (y.permute(2, 0, 1, 3), *(state.transpose(0, 1) for state in last))
    return (y, *last)


def _check(a: Attributes, x: Tensor, lengths: Array | None) -> None:
    if "clip" in a or a.get("input_forget", 0):
        raise NotReadError("a recurrent operator with a limit or coupled gates")
    if lengths is not None and set(ints(known(lengths, "sequence lengths"))) != {x.shape[0]}:
        raise NotReadError("a recurrent operator over sequences of several lengths")


def _activations(a: Attributes) -> list[str]:
    names = a.get("activations") or _DEFAULTS[a["op"]] * (
        2 if a.get("direction", b"forward") == b"bidirectional" else 1
    )
    names = [(name.decode() if isinstance(name, bytes) else name).lower() for name in names]
    if unknown := sorted(set(names) - _ACTIVATIONS.keys()):
        raise NotReadError(f"a recurrent operator with the activation {unknown[0]}")
    return names


def _by_torch(
    a: Attributes, x: Tensor, w: Tensor, r: Tensor, b: Tensor | None, states: Sequence[Tensor]
) -> tuple[Tensor, Sequence[Tensor]] | None:
    """The sequence and the last states from torch's own operator, or ``None`` if it computes something else."""
    op, names = a["op"], set(_activations(a))
    direction = a.get("direction", b"forward")
    usual = {name.lower() for name in _DEFAULTS[op]} == names or (op == "RNN" and names == {"relu"})
    if direction == b"reverse" or not usual or (op == "GRU" and not a.get("linear_before_reset", 0)):
        return None
    weights = [part for way in range(w.shape[0]) for part in _weights_of(op, w, r, b, way)]
    function: Any = {
        "LSTM": torch.lstm,
        "GRU": torch.gru,
        "RNN": torch.rnn_relu if "relu" in names else torch.rnn_tanh,
    }[op]
    first = tuple(states) if op == "LSTM" else states[0]
    y, *last = function(x, first, weights, b is not None, 1, 0.0, False, w.shape[0] == 2, False)
    return y.reshape(*y.shape[:2], w.shape[0], -1).transpose(1, 2), last


def _weights_of(op: str, w: Tensor, r: Tensor, b: Tensor | None, way: int) -> list[Tensor]:
    parts = [w[way], r[way]] + ([] if b is None else list(b[way].chunk(2)))
    return [torch.cat([part.chunk(_GATES[op])[gate] for gate in _ORDER[op]]) for part in parts]


def _written_out(
    a: Attributes, x: Tensor, weights: tuple[Tensor, Tensor, Tensor | None, Tensor | None], states: Sequence[Tensor]
) -> tuple[Tensor, Sequence[Tensor]]:
    steps, ways = x.shape[0], weights[0].shape[0]
    if not isinstance(steps, int) or steps > _MOST_STEPS:
        raise NotReadError(f"a recurrent operator over more than {_MOST_STEPS} steps, or an open number of them")
    names = _activations(a)
    per_way = len(names) // ways
    sequences, lasts = [], []
    for way in range(ways):
        step = _step(a, [None if part is None else part[way] for part in weights], names[way * per_way :][:per_way])
        backwards = way == 1 or a.get("direction", b"forward") == b"reverse"
        state, outputs = tuple(part[way] for part in states), []
        for at in reversed(range(steps)) if backwards else range(steps):
            state = step(x[at], state)
            outputs.append(state[0])
        sequences.append(torch.stack(outputs[::-1] if backwards else outputs))
        lasts.append(state)
    return torch.stack(sequences, 1), [torch.stack(parts) for parts in zip(*lasts)]


def _step(a: Attributes, weights: Sequence[Tensor | None], names: Sequence[str]) -> _Step:
    """One step of one direction: from an element of the sequence and the states to the new states."""
    w, r, b, peep = weights
    assert w is not None
    assert r is not None
    from_x, from_h = (None, None) if b is None else b.chunk(2)
    activations = [_ACTIVATIONS[name] for name in names]
    gates = _GATES[a["op"]]

    def plain(x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (activations[0](F.linear(x, w, from_x) + F.linear(state[0], r, from_h)),)

    def lstm(x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        h, c = state
        f, g, out = activations
        i, o, keep, new = (F.linear(x, w, from_x) + F.linear(h, r, from_h)).chunk(gates, -1)
        if peep is not None:
            of_i, of_o, of_keep = peep.chunk(3)
            i, keep = i + of_i * c, keep + of_keep * c
            c = f(keep) * c + f(i) * g(new)
            return f(o + of_o * c) * out(c), c
        c = f(keep) * c + f(i) * g(new)
        return f(o) * out(c), c

    def gru(x: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        (h,), (f, g) = state, activations
        xz, xr, xh = F.linear(x, w, from_x).chunk(gates, -1)
        parts = list(zip(r.chunk(gates), [None] * gates if from_h is None else from_h.chunk(gates)))
        z, reset = f(xz + F.linear(h, *parts[0])), f(xr + F.linear(h, *parts[1]))
        if a.get("linear_before_reset", 0):
            new = g(xh + reset * F.linear(h, *parts[2]))
        else:
            new = g(xh + F.linear(reset * h, *parts[2]))
        return ((1 - z) * new + z * h,)

    return {"LSTM": lstm, "GRU": gru, "RNN": plain}[a["op"]]


OPERATORS: Mapping[str, Meaning] = dict.fromkeys(("LSTM", "GRU", "RNN"), _recurrent)
