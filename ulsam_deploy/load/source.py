"""Loads a network with its weights from a file or the user's own code: the first step of the pipeline."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ulsam_deploy.device.data_files import opened
from ulsam_deploy.device.errors import UsageError
from ulsam_deploy.device.hashing import digest_of
from ulsam_deploy.graph.interfaces import Network
from ulsam_deploy.load import checkpoint, onnx
from ulsam_deploy.load.checkpoint import InMemory
from ulsam_deploy.load.options import LoadOptions

if TYPE_CHECKING:
    from torch import Tensor, nn

#: Bytes of the largest model that is read.
_LARGEST = 4 << 30


@dataclass(frozen=True)
class Source:
    """A network in ``eval`` mode and what is known about it. ``expected_blocks`` is ``None`` if unknown.

    ``reference``, for a network that was converted from something else, is what it must equal in float64: a function
    from one batch of inputs, in order, to the outputs by name. ``again`` builds the network anew, with the same
    weights, if it comes from a factory.
    """

    model: nn.Module
    network: str
    config: Mapping[str, Any]
    input_shapes: tuple[tuple[int, ...], ...]
    expected_blocks: int | None
    notes: tuple[str, ...]
    reference: Callable[[Sequence[Tensor]], Mapping[str, Tensor]] | None = None
    again: Callable[[], nn.Module] | None = None

    @property
    def parameters(self) -> int:
        """The number of trained parameters."""
        return sum(parameter.numel() for parameter in self.model.parameters())


def load(options: LoadOptions, given: InMemory | None = None) -> Source:
    """Read ``options.model`` and build its network; ``given``: the network itself, if it is in memory.

    Raises the errors of :mod:`ulsam_deploy.load.checkpoint`, or of :mod:`ulsam_deploy.load.onnx` for an ONNX model.
    """
    if given is not None:
        return _from_memory(options, given)
    if onnx.is_onnx(options.model):
        return _from_onnx(options)
    weights = checkpoint.read(
        options.model,
        trust_pickle=options.trust_pickle,
        allow_globals=options.allow_globals,
        weights=options.weights or "",
    )
    if options.factory:
        return _from_factory(options, weights)
    weights = checkpoint.recognized(weights, options.arch)
    if weights.module is not None and not options.arch and not checkpoint.is_known(weights):
        return _from_its_own_module(options, weights, weights.module)
    network, config = checkpoint.identify(weights, options.arch, options.variant)
    model = checkpoint.build(weights, network, config)
    if options.variant and network.blocks(config) == 0:
        raise UsageError(
            f"--ulsam-variant is about ULSAM, and '{options.model.name}' has none", expected="no --ulsam-variant"
        )
    # With an explicit variant, the warning about what the weights leave open is not needed.
    notes = weights.notes if options.variant else checkpoint.remarks(weights, network)
    if options.inputs:
        _check_shapes(network, config, options.inputs)
        return Source(model, network.name, config, options.inputs, network.blocks(config), notes)
    shape, assumed = checkpoint.input_shape(weights, network, config)
    notes = (*notes, assumed) if assumed else notes
    return Source(model, network.name, config, (shape,), network.blocks(config), notes)


def _check_shapes(network: Network, config: Mapping[str, object], shapes: tuple[tuple[int, ...], ...]) -> None:
    if len(shapes) > 1:
        raise UsageError(f"{network.name} has one input, and --input was given {len(shapes)} times", expected="once")
    checkpoint.check_shape(network, config, shapes[0])


def _from_onnx(options: LoadOptions) -> Source:
    given: list[tuple[str, object]] = [
        ("--arch", options.arch),
        ("--model", options.factory),
        ("--ulsam-variant", options.variant),
    ]
    given += [
        ("--weights", options.weights),
        ("--trust-pickle", options.trust_pickle),
        ("--allow-global", options.allow_globals),
    ]
    if pointless := [word for word, value in given if value]:
        raise UsageError(
            f"{pointless[0]} is for checkpoints: '{options.model.name}' says itself what network it is",
            expected=f"an ONNX model without {pointless[0]}",
        )
    read = onnx.load(options.model, options.inputs, options.batch)
    config = {"opset": read.opset, "producer": read.producer}
    return Source(read.model, "onnx", config, read.shapes, None, read.notes, read.reference)


def _from_factory(options: LoadOptions, weights: checkpoint.Checkpoint) -> Source:
    assert options.factory
    for word, value in (("--arch", options.arch), ("--ulsam-variant", options.variant)):
        if value:
            raise UsageError(f"{word} is for networks that this tool knows", expected="--model without it")
    if not options.inputs:
        raise _no_shape(f"the input shape of '{options.factory}' is not known")
    build = partial(checkpoint.from_factory, options.factory, weights)
    model, notes = build()
    return Source(model.eval(), options.factory, {}, options.inputs, None, notes, again=lambda: build()[0].eval())


def _from_its_own_module(options: LoadOptions, weights: checkpoint.Checkpoint, module: nn.Module) -> Source:
    """The network that was saved whole: its code was imported while the trusted file was read."""
    own = checkpoint.from_module(module)
    if options.variant:
        raise UsageError("--ulsam-variant is for networks that this tool knows", expected="no --ulsam-variant")
    if not options.inputs:
        raise _no_shape(f"'{options.model.name}' holds a {own.network}, whose input shape is not known")
    return Source(own.model, own.network, {}, options.inputs, None, weights.notes)


def _no_shape(found: str) -> UsageError:
    return UsageError(found, expected="--input CxHxW, once for each input", todo="add, for example, --input 3x224x224")


def _from_memory(options: LoadOptions, given: InMemory) -> Source:
    about_files = {
        "arch": options.arch, "factory": options.factory, "variant": options.variant,
        "weights": options.weights,
        "trust_pickle": options.trust_pickle, "allow_globals": options.allow_globals,
    }  # fmt: skip
    if pointless := [name for name, value in about_files.items() if value]:
        raise UsageError(
            f"{pointless[0]} says how a file is read, and the network is in memory", expected="a module without it"
        )
    if not options.inputs:
        raise UsageError(
            f"the input shape of {given.network} is not known",
            expected="inputs, a shape without the batch for each input",
            todo="add, for example, inputs=(3, 224, 224)",
        )
    return Source(given.model, given.network, {}, options.inputs, None, given.notes)


def check_readable(path: Path) -> None:
    """Raise :class:`UsageError` if the model is no file, is too large or cannot be read, before any other work."""
    try:
        with opened(path) as stream:
            size = os.fstat(stream.fileno()).st_size
    except OSError as error:
        raise _unreadable(path, error) from error
    if size > _LARGEST:
        raise UsageError(f"'{path}' has {size} bytes", expected=f"a compact CNN of at most {_LARGEST >> 30} GiB")


def file_digest(options: LoadOptions) -> str:
    """SHA-256 of the model's file, with all its weights, in hexadecimal.

    Raises :class:`UsageError` when it cannot be read.
    """
    return onnx.digest(options.model) if onnx.is_onnx(options.model) else file_digest_of(options.model)


def file_digest_of(path: Path) -> str:
    """SHA-256 of the file at ``path``, in hexadecimal; raises :class:`UsageError` when it cannot be read."""
    try:
        return digest_of(path)
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> UsageError:
    return UsageError(
        f"cannot read '{path}': {error.strerror}",
        expected="an existing file",
        todo="check the path (a fresh checkpoint is made by 'ulsam-deploy new')",
    )
