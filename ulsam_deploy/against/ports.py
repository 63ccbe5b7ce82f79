"""Matches the ports of an unknown artifact with the network's tensors and layouts. Standard library only."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from ulsam_deploy.device.errors import UsageError
from ulsam_deploy.device.shapes import shape_text
from ulsam_deploy.device.types import TensorSpec

Specs = tuple[TensorSpec, ...]
LAYOUTS = ("NCHW", "NHWC")
FLOATS = ("float32", "float16", "float64")


def batch_of(ports: Sequence[TensorSpec]) -> int | None:
    """The artifact's batch size; ``None`` if it is dynamic."""
    if not ports or not ports[0].shape:
        raise UsageError("the artifact has no input with a batch axis", expected="a network with image-like inputs")
    return ports[0].shape[0]


def map_inputs(ports: Specs, wanted: Specs, layout: str | None) -> Specs:
    """Match the artifact's input ports with the network's inputs ``wanted``.

    Ports are matched by name if the names are the same, otherwise by order.

    Returns:
        The ports in the order of ``wanted``, described in PyTorch's axis order.

    Raises:
        UsageError: The number, a shape or a dtype does not fit, or a layout is ambiguous.
    """
    if len(ports) != len(wanted):
        raise UsageError(f"the artifact has {len(ports)} inputs", expected=f"{len(wanted)}, as the network has")
    return tuple(_input(port, spec, layout) for port, spec in zip(_paired(ports, wanted), wanted))


def map_outputs(ports: Specs, wanted: Specs, layout: str | None) -> dict[str, TensorSpec]:
    """Map the network's output names to the artifact's ports; an output for which no port is left is missing.

    A port whose shape fits is preferred to the next in order; one that does not fit is taken as it is, and the check
    reports what is wrong with it.
    """
    if {spec.name for spec in wanted} <= {port.name for port in ports}:
        left = list(_paired(ports, wanted))
    else:
        left = list(ports)
    found = {}
    for spec in wanted:
        chosen = next((port for port in left if _layouts(port, spec)), left[0] if left else None)
        if chosen is not None:
            left.remove(chosen)
            fitting = _layouts(chosen, spec)
            right = layout if layout in fitting else fitting[0] if fitting else "NCHW"
            found[spec.name] = _described(chosen, right)
    return found


def _paired(ports: Specs, wanted: Specs) -> Specs:
    named = {port.name: port for port in ports}
    if all(spec.name in named for spec in wanted):
        return tuple(named[spec.name] for spec in wanted)
    return ports


def _input(port: TensorSpec, spec: TensorSpec, layout: str | None) -> TensorSpec:
    if port.dtype not in FLOATS:
        raise UsageError(
            f"input '{port.name}' of the artifact takes {port.dtype}",
            expected=" or ".join(FLOATS),
            todo="convert with floating-point inputs and outputs; quantization stays inside the artifact",
        )
    fitting = _layouts(port, spec)
    if layout and layout not in fitting and len(spec.shape) == 4:
        fitting = ()
    if not fitting:
        raise UsageError(
            f"input '{port.name}' of the artifact has shape {shape_text(port.shape)}"
            + (f", which as {layout} does not fit the network" if layout else ""),
            expected=f"{shape_text(spec.shape)} (or its channels last), as the network has",
            todo="leave out --layout"
            if layout and _layouts(port, spec)
            else "give the network's real input with --input CxHxW",
        )
    if layout is None and len(fitting) > 1:
        raise UsageError(
            f"input '{port.name}' of the artifact has shape {shape_text(port.shape)}, which fits both layouts",
            todo="say which with --layout NCHW or --layout NHWC",
        )
    return _described(port, layout if layout and layout in fitting else fitting[0])


def _layouts(port: TensorSpec, spec: TensorSpec) -> tuple[str, ...]:
    """The layouts in which the shape of ``port`` fits ``spec``, ignoring the batch."""
    own, wanted = port.shape, spec.shape[1:]
    if len(own) != len(spec.shape):
        return ()
    orders = {"NCHW": own[1:]}
    if len(own) == 4:
        orders["NHWC"] = (own[3], own[1], own[2])
    fitting = [name for name, order in orders.items() if all(a in (b, None) for a, b in zip(order, wanted))]
    return tuple(fitting)


def _described(port: TensorSpec, layout: str) -> TensorSpec:
    """``port`` in PyTorch's axis order."""
    if layout != "NHWC" or len(port.shape) != 4:
        return port
    batch, height, width, channels = port.shape
    return dataclasses.replace(port, shape=(batch, channels, height, width), layout="NHWC")
