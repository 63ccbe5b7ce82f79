"""The captured network as a :class:`Program`: names and shapes of its tensors, and the attention blocks found in it."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.export.graph_signature import OutputKind

from ulsam_deploy.device.errors import ExportError, UsageError
from ulsam_deploy.device.shapes import shape_text
from ulsam_deploy.device.types import Block, Refusal, TensorSpec
from ulsam_deploy.graph.editing import Editor
from ulsam_deploy.graph.modules import module_of

#: The batch that a dynamic program is traced with: torch would treat a dimension of size 1 as a constant.
TRACED_BATCH = 2
#: The largest batch that a dynamic program accepts.
MAX_BATCH = 1024


@dataclass(frozen=True)
class Program:
    """A ``torch.export`` program with flat tensor inputs and outputs in the order of ``inputs`` and ``outputs``.

    Attributes:
        exported: The program itself.
        inputs: Names and shapes of the inputs.
        outputs: Names and shapes of the outputs.
        blocks: The ULSAM blocks fused so far, in graph order.
        refusals: What looked like a block and was left unchanged, with the reason.
        exact: By target, the float64 values of buffers that a rewrite computed and stored as float32.
    """

    exported: ExportedProgram
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    blocks: tuple[Block, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    exact: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def batch(self) -> int | None:
        """The batch size that the program is made for; ``None`` when it is dynamic."""
        return self.inputs[0].shape[0]

    def example(self, seed: int = 0) -> dict[str, Tensor]:
        """Standard normal inputs of the traced size, float32."""
        generator = torch.Generator().manual_seed(seed)
        return {
            spec.name: torch.randn([size or TRACED_BATCH for size in spec.shape], generator=generator)
            for spec in self.inputs
        }


class _Flat(nn.Module):
    """Wraps a network so that it takes tensors and returns a flat tuple of tensors; keeps the names of the outputs."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.names: tuple[str, ...] = ()

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        named = dict(_named_outputs(self.model(*inputs), ""))
        self.names = tuple(named)
        return tuple(named.values())


def _named_outputs(value: object, name: str) -> list[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        return [(name, value)]
    if value is None:  # an auxiliary head that is off in evaluation mode, say
        return []
    if isinstance(value, Mapping):
        items = [(str(key), item) for key, item in value.items()]
    elif isinstance(value, Sequence) and not isinstance(value, str):
        items = [(str(index), item) for index, item in enumerate(value)]
    else:
        raise ExportError(
            f"the network returns a {type(value).__name__}", expected="a tensor, or a tuple, list or mapping of tensors"
        )
    return [pair for key, item in items for pair in _named_outputs(item, f"{name}_{key}" if name else key)]


@dataclass(frozen=True)
class Signature:
    """The inputs and outputs of a network, in order, as in :class:`Program`."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]


def signature(model: nn.Module, input_shapes: Sequence[Sequence[int]], batch: int | None = 1) -> Signature:
    """Run ``model`` once to learn its inputs and outputs, without capturing it.

    Args:
        model: The network.
        input_shapes: The inputs without the batch axis, as in :func:`capture`.
        batch: The batch size, or ``None`` for a dynamic batch.

    Returns:
        The names and shapes.

    Raises:
        UsageError: The network does not run on these shapes.
        ExportError: Its outputs are not tensors, or do not begin with the batch.
    """
    flat, examples = _Flat(model).eval(), _examples(input_shapes, batch)
    results = _run_once(flat, examples)
    size = examples[0].shape[:1]
    for name, result in zip(_output_names(flat.names, results), results):
        if result.shape[:1] != size:
            raise ExportError(
                f"output '{name}' ({shape_text(result.shape)}) does not begin with the batch, which is {size[0]}",
                expected="outputs whose first axis is the batch, so that each belongs to one input",
                todo="wrap the network in a module that moves the batch to the front: x.unflatten(0, (batch, -1)) for "
                "the anchors of all images in one list, h.transpose(0, 1) for the state of an RNN",
            )
    return _signature(flat, examples, results, batch)


def capture(model: nn.Module, input_shapes: Sequence[Sequence[int]], batch: int | None = 1) -> Program:
    """Capture ``model`` in evaluation mode with ``torch.export``.

    Args:
        model: The network; its parameters must be float32.
        input_shapes: The inputs without the batch axis, e.g. ``[(3, 224, 224)]``.
        batch: The batch size, or ``None`` for a dynamic batch.

    Returns:
        The captured program, without fused blocks.

    Raises:
        UsageError: The network does not run on these shapes.
        ExportError: The network cannot be captured; contains torch's message.
    """
    flat, examples = _Flat(model).eval(), _examples(input_shapes, batch)
    results = _run_once(flat, examples)
    dim = Dim("batch", min=1, max=MAX_BATCH)
    dynamic = {"inputs": tuple({0: dim} for _ in examples)} if batch is None else None
    try:
        with warnings.catch_warnings():  # torch warns about its own code
            warnings.filterwarnings("ignore", message=r"`isinstance\(treespec, LeafSpec\)` is deprecated")
            exported = torch.export.export(flat, examples, dynamic_shapes=dynamic)
            # Makes the graph functional, with one form of most operators; composite ones such as conv2d stay whole.
            exported = exported.run_decompositions({})
    except Exception as error:  # torch.export raises many kinds, all of them about the user's network
        raise ExportError(
            f"torch.export cannot capture the network: {_first_line(error)}",
            expected="a network without data-dependent control flow" + (", for any batch" if batch is None else ""),
            todo="try --batch 1" if batch is None else "see the cause above; torch.export must succeed on this network",
        ) from error
    ports = _signature(flat, examples, results, batch)
    _check_autocast(exported)
    return Program(_without_mutations(exported), ports.inputs, ports.outputs)


def flat_outputs(model: nn.Module, inputs: Sequence[Tensor]) -> list[Tensor]:
    """All tensors that ``model`` returns for ``inputs``, in the order of a program's outputs."""
    return [tensor for _, tensor in _named_outputs(model(*inputs), "")]


def _examples(input_shapes: Sequence[Sequence[int]], batch: int | None) -> tuple[Tensor, ...]:
    return tuple(torch.zeros(TRACED_BATCH if batch is None else batch, *shape) for shape in input_shapes)


def _run_once(flat: _Flat, examples: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    try:
        with torch.no_grad():
            results: tuple[Tensor, ...] = flat(*examples)
    except (RuntimeError, TypeError, ValueError, IndexError) as error:
        shapes = ", ".join(shape_text(example.shape[1:]) for example in examples)
        if len(examples[0]) > 1 and _runs(flat, [example[:1] for example in examples]):
            raise UsageError(
                f"the network runs on input {shapes} with a batch of 1 only: {_first_line(error)}",
                expected="a network whose code states no batch size, such as x.flatten(1) and not x.reshape(1, -1)",
                todo="use --batch 1",
            ) from error
        raise UsageError(
            f"the network does not run on input {shapes}: {_first_line(error)}",
            expected="the input that the network was built for",
            todo="give it with --input CxHxW (once for each input)",
        ) from error
    if not results:
        raise ExportError("the network returns nothing", expected="a tensor, or a tuple, list or mapping of tensors")
    return results


def _runs(flat: _Flat, examples: Sequence[Tensor]) -> bool:
    try:
        with torch.no_grad():
            flat(*examples)
    except (RuntimeError, TypeError, ValueError, IndexError):
        return False
    return True


def _signature(flat: _Flat, examples: Sequence[Tensor], results: Sequence[Tensor], batch: int | None) -> Signature:
    """The names and shapes of ``examples`` and of the ``results`` of ``flat`` for them, with the requested batch."""
    size = examples[0].shape[:1]
    return Signature(
        tuple(
            TensorSpec(name, (batch, *example.shape[1:]))
            for name, example in zip(_input_names(flat.model, len(examples)), examples)
        ),
        tuple(
            TensorSpec(name, (batch if result.shape[:1] == size else result.shape[0], *result.shape[1:]))
            for name, result in zip(_output_names(flat.names, results), results)
        ),
    )


def _check_autocast(exported: ExportedProgram) -> None:
    """Refuse a network that switches its own precision: the reference would be as coarse as what it judges."""
    for node in exported.graph.nodes:
        value = node.meta.get("val")
        if isinstance(value, Tensor) and value.dtype in (torch.bfloat16, torch.float16):
            module = module_of(node)
            raise ExportError(
                f"the network computes in {str(value.dtype).removeprefix('torch.')} by itself"
                + (f", first in module '{module}'" if module else ""),
                expected="a float32 network: the precision is chosen on export",
                todo="take torch.autocast or .half() out of its forward method, and use --precision fp16",
            )


def _without_mutations(exported: ExportedProgram) -> ExportedProgram:
    """The program without the outputs that would overwrite its caller's tensors; refuses a network with state."""
    remembered = exported.graph_signature.buffers_to_mutate
    if remembered:
        raise ExportError(
            f"the network changes its own buffer '{min(remembered.values()).removeprefix('model.')}' while it runs",
            expected="a network whose outputs depend on its inputs and weights only",
            todo="keep what it remembers outside of the network, as an input and an output",
        )
    if not exported.graph_signature.user_inputs_to_mutate:
        return exported
    editor = Editor(exported)
    editor.drop_outputs(OutputKind.USER_INPUT_MUTATION)
    return editor.finish()


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _input_names(model: nn.Module, count: int) -> list[str]:
    """The network's own ``input_names``, or those of the forward method's arguments; ``input_0``, ... for ``*args``."""
    if (own := getattr(model, "input_names", None)) and len(own) == count:
        return list(own)
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    names = [p.name for p in inspect.signature(model.forward).parameters.values() if p.kind in kinds]
    return names[:count] if len(names) >= count else [f"input_{i}" for i in range(count)]


def _output_names(keys: Sequence[str], results: Sequence[Tensor]) -> list[str]:
    """A mapping's own keys; ``logits`` for a single vector per image, ``output`` or ``output_0``, ... otherwise."""
    if list(keys) == [""]:
        return ["logits" if results[0].ndim == 2 else "output"]
    return [f"output_{key}" if key[:1].isdigit() else key for key in keys]
