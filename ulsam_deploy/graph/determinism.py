"""Refuses a network that is another one in each run or in each build: nothing that was proven of it would hold.

A network is run twice, and built twice if it comes from a factory, each time on the same input. Random numbers are
never a part of a noise floor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from textwrap import shorten
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Node

from ulsam_deploy.device.errors import ExportError
from ulsam_deploy.device.shapes import shape_text
from ulsam_deploy.graph.evaluate import Evaluator
from ulsam_deploy.graph.modules import module_of
from ulsam_deploy.graph.program import Program, flat_outputs

__all__ = ["check_repeatable"]

#: Outputs that differ by this part of the largest one differ by more than float32 kernels with several threads do.
_SAME = 1e-3
#: In float64 nothing but a draw makes this difference: however small it is, it would be taken for noise.
_EXACT = 1e-9
#: Characters of the user's line that are shown.
_CODE = 90
_STEADY = "a network that gives the same result for the same input, in every run and every build"


def check_repeatable(model: nn.Module, program: Program, again: Callable[[], nn.Module] | None = None) -> None:
    """Check that a network is the same in each run, and in each build.

    Args:
        model: The network.
        program: Its captured program.
        again: Builds the network anew, with the same weights; ``None`` if there is only this one.

    Raises:
        ExportError: It is not; names the operator and the line, or the tensor, that is drawn anew.
    """
    inputs = list(program.example(seed=2).values())
    _check_operators(program, inputs)
    first = _run(model, inputs)
    if _differ(first, _run(model, inputs)):
        raise ExportError(
            "the network gives another result for the same input when it runs again",
            expected=_STEADY,
            todo="take out of its forward method what it draws or counts with Python or numpy, or make it an input",
        )
    if again is not None and _differ(first, _run(other := again(), inputs)):
        name = next(_drawn(model, other), None)
        raise ExportError(
            f"the network is another one each time that it is built: {name or 'a value'} is drawn anew and is not in "
            f"the checkpoint",
            expected=_STEADY,
            todo="register it with self.register_buffer(...) and save the checkpoint again, or seed the factory as in "
            "training",
        )


def _check_operators(program: Program, inputs: list[Tensor]) -> None:
    """Raise the error if an operator that draws numbers changes an output."""
    nodes = program.exported.graph.nodes
    if not any(_draws(node) for node in nodes):
        return
    runs = [_seeded(program, inputs, seed) for seed in (0, 1)]
    if not any(_different(runs[0][out], runs[1][out], _EXACT) for out in _results(program) if out in runs[0]):
        return
    node = next(node for node in nodes if _draws(node) and _different(runs[0].get(node), runs[1].get(node), _EXACT))
    module, operator = module_of(node), str(node.target).split(".")[1]
    where = f" in module '{module}'" if module else ""
    dropout = "dropout" in operator
    raise ExportError(
        f"the network is random when it runs: '{operator}'{where}{_line(node)} draws other numbers each time",
        expected=_STEADY,
        todo="pass training=self.training to it, so that it does nothing in evaluation mode"
        if dropout
        else "take the draw out of the forward method, or give its numbers to the network as an input",
    )


def _draws(node: Node) -> bool:
    target = node.target
    return isinstance(target, torch._ops.OpOverload) and torch.Tag.nondeterministic_seeded in target.tags


def _seeded(program: Program, inputs: list[Tensor], seed: int) -> Mapping[Node, Any]:
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        return dict(Evaluator(program).every(inputs))


def _results(program: Program) -> list[Node]:
    (output,) = program.exported.graph.find_nodes(op="output")
    return [node for node in output.args[0] if isinstance(node, Node)]


def _line(node: Node) -> str:
    """The user's line, as torch recorded it: the last frame of the trace."""
    lines = [line.strip() for line in node.meta.get("stack_trace", "").splitlines() if line.strip()]
    place = next((line for line in reversed(lines) if line.startswith("File ")), None)
    if place is None:
        return ""
    code = shorten(lines[-1], _CODE, placeholder=" ...") if lines[-1] != place else ""
    file, line = place.split('"')[1], place.split("line ")[1].split(",")[0]
    return f" ({file}, line {line}{': ' + code if code else ''})"


def _run(model: nn.Module, inputs: list[Tensor]) -> list[Tensor]:
    with torch.no_grad():
        return flat_outputs(model, [tensor.clone() for tensor in inputs])  # a network may change its inputs


def _differ(first: list[Tensor], second: list[Tensor]) -> bool:
    return len(first) != len(second) or any(_different(one, other) for one, other in zip(first, second))


def _different(one: object, other: object, same: float = _SAME) -> bool:
    if isinstance(one, (tuple, list)) and isinstance(other, (tuple, list)):
        return any(_different(a, b, same) for a, b in zip(one, other))
    if not (isinstance(one, Tensor) and isinstance(other, Tensor)):
        return False
    if one.shape != other.shape:
        return True
    if not one.numel():
        return False
    one, other = one.detach().double(), other.detach().double()
    size = float(one.abs().nan_to_num(0.0, 0.0, 0.0).max())
    return not torch.allclose(one, other, rtol=0.0, atol=same * size, equal_nan=True)


def _drawn(model: nn.Module, other: nn.Module) -> Iterator[str]:
    """The tensors and numbers of ``model`` that ``other`` has with another value, by the names that the user gave."""
    theirs = dict(other.named_modules())
    for path, module in model.named_modules():
        if path not in theirs:
            continue
        mine, its = ({**vars(one), **one._buffers, **one._parameters} for one in (module, theirs[path]))
        for name, value in mine.items():
            for inner, one, two in _leaves(name, value, its.get(name)):
                if _different(torch.as_tensor(one), torch.as_tensor(two)):
                    shape = f" ({shape_text(one.shape)})" if isinstance(one, Tensor) else ""
                    yield f"'{path}.{inner}'{shape}" if path else f"'{inner}'{shape}"


def _leaves(name: str, one: object, other: object) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(one, (Tensor, float, int)) and isinstance(other, (Tensor, float, int)):
        yield name, one, other
    elif isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        for index, pair in enumerate(zip(one, other)):
            yield from _leaves(f"{name}[{index}]", *pair)
