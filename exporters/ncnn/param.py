"""The layers of ncnn's ``.param``: text, one line a layer; read, written, named and ablated here.

A line is: kind, name, number of inputs and of outputs, their names, and parameters such as ``0=16``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ulsam_deploy.device.errors import ExportError
from ulsam_deploy.device.types import TensorSpec

#: The first line of every file of this form.
MAGIC = "7767517"
#: Parameters of the layer Input: width, height, depth, channels, in the order of a shape from its end.
_SIZES = {1: ("0",), 2: ("0", "1"), 3: ("0", "1", "2"), 4: ("0", "1", "11", "2")}
#: A BinaryOp that multiplies by zero: the operation, that its second operand is a number, and the number.
_TIMES_ZERO = ("0=2", "1=1", "2=0.0")


@dataclass(frozen=True)
class NcnnLayer:
    """One line: its kind, its name, the names of its inputs and outputs, and its parameters as they are written."""

    kind: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    parameters: tuple[str, ...]


def read(text: str) -> list[NcnnLayer]:
    """The layers of a ``.param``, in execution order; raises :class:`ExportError` for anything else."""
    magic, _, *lines = text.split("\n") if text.count("\n") > 1 else ["", ""]
    if magic.strip() != MAGIC:
        raise ExportError("the file is no .param of ncnn", expected=f"{MAGIC} in its first line")
    return [_layer(line.split()) for line in lines if line.strip()]


def _layer(words: list[str]) -> NcnnLayer:
    try:
        start, count = 4 + int(words[2]), int(words[3])
    except (IndexError, ValueError) as error:
        raise ExportError(
            f"'{' '.join(words)[:80]}' is no line of a .param of ncnn", expected="a kind, a name, and two numbers"
        ) from error
    end = start + count
    return NcnnLayer(words[0], words[1], tuple(words[4:start]), tuple(words[start:end]), tuple(words[end:]))


def written(layers: Sequence[NcnnLayer]) -> str:
    """``layers`` as the text of a ``.param``."""
    rows = [
        " ".join(
            [
                *(layer.kind, layer.name, str(len(layer.inputs)), str(len(layer.outputs))),
                *layer.inputs, *layer.outputs, *layer.parameters,
            ]
        )
        for layer in layers
    ]  # fmt: skip
    blobs = sum(len(layer.outputs) for layer in layers)
    return "\n".join([MAGIC, f"{len(layers)} {blobs}", *rows, ""])


def named(layers: Sequence[NcnnLayer], inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> list[NcnnLayer]:
    """pnnx's ``in0`` and ``out0`` by the names of the network's ports, and the shape of each input at its layer.

    Every other value is called after the layer that makes it, which keeps the names of ports free.
    """
    names = {f"in{number}": spec.name for number, spec in enumerate(inputs)}
    names |= {f"out{number}": spec.name for number, spec in enumerate(outputs)}
    taken = set(names.values())
    for layer in layers:
        for value in layer.outputs:
            names.setdefault(value, f"{value}_" if value in taken else value)
    sizes = {spec.name: _sizes(spec) for spec in inputs}
    found = []
    for layer in layers:
        renamed = replace(
            layer,
            inputs=tuple(names[value] for value in layer.inputs),
            outputs=tuple(names[value] for value in layer.outputs),
        )
        if layer.kind == "Input":
            renamed = replace(renamed, parameters=sizes[renamed.outputs[0]])
        found.append(renamed)
    if missing := {spec.name for spec in outputs} - {value for layer in found for value in layer.outputs}:
        raise ExportError(f"pnnx left output '{min(missing)}' out", expected=f"{len(outputs)} outputs")
    return found


def _sizes(spec: TensorSpec) -> tuple[str, ...]:
    shape = spec.shape[1:]
    return tuple(f"{key}={size}" for key, size in zip(_SIZES.get(len(shape), ()), reversed(shape)))


def ablated(layers: Sequence[NcnnLayer], chosen: Sequence[int]) -> list[NcnnLayer] | None:
    """``layers`` with the softmaxes numbered ``chosen``, in execution order, giving zero; ``None`` without them."""
    places = [place for place, layer in enumerate(layers) if layer.kind == "Softmax"]
    if len(places) <= max(chosen):
        return None
    edited = list(layers)
    for place in (places[number] for number in chosen):
        edited[place] = replace(edited[place], kind="BinaryOp", parameters=_TIMES_ZERO)
    return edited
