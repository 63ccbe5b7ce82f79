"""Identifies the network of a checkpoint, and builds it with the checkpoint's weights."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ulsam_deploy.device import plugins
from ulsam_deploy.device.errors import ExportError, UsageError
from ulsam_deploy.device.shapes import shape_text
from ulsam_deploy.device.spelling import nearest, unknown
from ulsam_deploy.graph.interfaces import Network
from ulsam_deploy.load.checkpoint.fitting import fitted
from ulsam_deploy.load.checkpoint.reading import Checkpoint

if TYPE_CHECKING:
    from torch import Tensor, nn

Shapes = Mapping[str, tuple[int, ...]]
_LISTED = 8
_CODE = "give the network's code: --model PKG.MODULE:FACTORY"
#: In the keys of a network that torch.ao prepared for training with quantizers, or converted.
_QUANTIZER = re.compile(r"fake_quant|activation_post_process|_packed_params")
#: An untrusted file must not cause a capture at a size that fills the memory.
MAX_SIDE = 2048


def identify(
    checkpoint: Checkpoint, arch: str | None = None, variant: str | None = None
) -> tuple[Network, Mapping[str, Any]]:
    """Find the network of ``checkpoint`` and its configuration.

    Without ``arch``, the configuration that `ulsam-deploy new` wrote into the file is used if it agrees with the
    weights; otherwise every installed network tries to recognize them.

    Args:
        checkpoint: The weights.
        arch: A network's name, which restricts the search, or a named configuration, which is used as it is.
        variant: Overrides the ULSAM variant, which keys do not reveal.

    Raises:
        UsageError: No network recognizes these keys (the message names the closest), or ``arch`` is unknown.
        ExportError: The file's configuration contradicts its weights.
    """
    network, config = _chosen(checkpoint, arch) if arch else _declared(checkpoint) or _recognized(checkpoint, None)
    return network, {**config, "variant": variant} if variant else dict(config)


def build(checkpoint: Checkpoint, network: Network, config: Mapping[str, object]) -> nn.Module:
    """Build ``network`` with the checkpoint's weights, in ``eval`` mode.

    Every weight must fit: missing and unexpected keys and wrong shapes give one :class:`UsageError` that lists them.
    Only batch norm's ``num_batches_tracked``, which evaluation does not use, may be missing.
    """
    model = network.build(config)
    fill(model, renamed(checkpoint, network), f"'{checkpoint.name}' does not fit {network.name}")
    return model.eval()


def input_shape(
    checkpoint: Checkpoint, network: Network, config: Mapping[str, object]
) -> tuple[tuple[int, int, int], str]:
    """The input shape to use: the one stated in the file if it is valid, otherwise the network's default.

    Args:
        checkpoint: The checkpoint.
        network: The network of its weights.
        config: The network's configuration.

    Returns:
        Channels x height x width, and a sentence for the user if the shape is assumed; empty if the file states it.
    """
    usual = network.input_shape(config)
    declared = checkpoint.metadata.get("ulsam_deploy")
    told = declared.get("input") if isinstance(declared, dict) else None
    if told is None:
        why = f"'{checkpoint.name}' does not say what it was trained at"
    elif not isinstance(told, list) or len(told) != 3 or any(type(size) is not int for size in told):
        why = f"what '{checkpoint.name}' states is not a shape"
    elif told[0] != usual[0] or not all(1 <= size <= MAX_SIDE for size in told[1:]):
        why = f"'{checkpoint.name}' says {shape_text(tuple(told))}, which {network.name} cannot take"
    else:
        return (told[0], told[1], told[2]), ""
    return usual, (
        f"an input of {shape_text(usual)} was assumed, the default of {network.name}: {why}; "
        f"if that is wrong, give it with --input {usual[0]}xHxW"
    )


def check_shape(network: Network, config: Mapping[str, object], shape: Sequence[int]) -> None:
    """Raise :class:`UsageError` unless ``shape``, without the batch, can be an input of ``network``."""
    usual = network.input_shape(config)
    if len(shape) == 3 and shape[0] == usual[0] and max(shape[1:]) <= MAX_SIDE:
        return
    turned = (shape[-1], *shape[:-1]) if len(shape) == 3 and shape[-1] == usual[0] else usual
    raise UsageError(
        f"{network.name} cannot take an input of {shape_text(tuple(shape))}",
        expected=f"channels x height x width, {usual[0]} channels here, and at most {MAX_SIDE} a side",
        todo=f"say, for example, --input {shape_text(turned)}",
    )


def remarks(checkpoint: Checkpoint, network: Network) -> tuple[str, ...]:
    """What the user should know: how reading changed the weights, and the network's warnings about them."""
    return (*checkpoint.notes, *network.warnings(renamed(checkpoint, network)))


def fill(model: nn.Module, tensors: Mapping[str, Tensor], what: str) -> None:
    """Load ``tensors`` into ``model`` strictly; raises a :class:`UsageError` that begins with ``what``."""
    wanted = _shapes(model.state_dict())
    problems = _differences(wanted, _shapes(tensors))
    if problems:
        raise UsageError(
            "\n".join([f"{what}:", *(f"    {line}" for line in problems)]),
            expected=f"{len(wanted)} entries of the same names and shapes",
            todo=_of_quantizers(tensors) or f"choose another --arch, or {_CODE}",
        )
    model.load_state_dict({**{k: v for k, v in model.state_dict().items() if k not in tensors}, **tensors})


def fits(model: nn.Module, tensors: Mapping[str, Tensor]) -> bool:
    """Whether ``tensors`` are exactly the entries of ``model``."""
    return not _differences(_shapes(model.state_dict()), _shapes(tensors))


def recognized(checkpoint: Checkpoint, arch: str | None = None) -> Checkpoint:
    """``checkpoint`` with the keys that a network, or the one called ``arch``, recognizes; itself if there are none."""
    networks = _networks()
    asked = [networks[arch]] if arch in networks else list(networks.values())

    return fitted(checkpoint, lambda tensors: _first(replace(checkpoint, tensors=tensors), asked) is not None)


def is_known(checkpoint: Checkpoint) -> bool:
    """Whether an installed network recognizes these keys and shapes."""
    return _first(checkpoint, _networks().values()) is not None


def renamed(checkpoint: Checkpoint, network: Network) -> dict[str, Tensor]:
    """The checkpoint's tensors under the names that ``network`` uses."""
    names = network.rename(checkpoint.tensors)
    return {names.get(key, key): tensor for key, tensor in checkpoint.tensors.items()}


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {key: tuple(tensor.shape) for key, tensor in tensors.items()}


def _differences(wanted: Shapes, given: Shapes) -> list[str]:
    """Lines that list what is missing, unexpected or of another shape; empty if everything fits."""
    missing = [key for key in wanted if key not in given and not key.endswith("num_batches_tracked")]
    surplus = [key for key in given if key not in wanted]
    misshaped = [key for key in wanted if key in given and wanted[key] != given[key]]
    lines = _listed(f"{len(missing)} missing", [_with_guess(key, surplus) for key in missing[:_LISTED]], len(missing))
    lines += _listed(f"{len(surplus)} unexpected", [_with_guess(k, missing) for k in surplus[:_LISTED]], len(surplus))
    shapes = [f"{key} is {shape_text(given[key])}, not {shape_text(wanted[key])}" for key in misshaped[:_LISTED]]
    return lines + _listed(f"{len(misshaped)} of another shape", shapes, len(misshaped))


def _listed(title: str, shown: list[str], total: int) -> list[str]:
    more = [f"  ... and {total - len(shown)} more"] if total > len(shown) else []
    return [f"{title}:", *(f"  {line}" for line in shown), *more] if shown else []


def _with_guess(key: str, others: list[str]) -> str:
    near = nearest(key, others[:2000], cutoff=0.75)
    return f"{key} (nearest: {near})" if near else key


# --- choosing ---------------------------------------------------------------------------------------------------------


def _networks() -> dict[str, Network]:
    return plugins.loaded(plugins.MODELS)


def _chosen(checkpoint: Checkpoint, arch: str) -> tuple[Network, Mapping[str, Any]]:
    networks = _networks()
    if arch in networks:
        return _recognized(checkpoint, arch)
    for network in networks.values():
        if arch in network.named():
            return network, network.named()[arch]
    names = [*networks, *(name for network in networks.values() for name in network.named())]
    raise unknown(
        f"no network or configuration is called '{arch}'",
        arch,
        names,
        expected=f"{', '.join(sorted(networks))}, a name that 'ulsam-deploy new --list' prints, or --model",
        todo="give the network's code instead: --model PKG.MODULE:FACTORY",
    )


def _recognized(checkpoint: Checkpoint, arch: str | None) -> tuple[Network, Mapping[str, Any]]:
    """Ask every network, or the one called ``arch``, whether these are its keys and shapes."""
    networks = _networks()
    asked = [networks[arch]] if arch else list(networks.values())
    if found := _first(checkpoint, asked):
        return found
    raise UsageError(
        f"'{checkpoint.name}' holds the weights of no known network{_closest(checkpoint, asked)}",
        expected=f"the keys and shapes of {' or '.join(network.name for network in asked)}",
        todo=_of_quantizers(checkpoint.tensors) or f"name it with --arch NAME, or {_CODE}",
    )


def _of_quantizers(keys: Iterable[str]) -> str:
    """What to do with a checkpoint of quantization-aware training; empty if it is none."""
    if not any(_QUANTIZER.search(key) for key in keys):
        return ""
    return (
        "it was trained with quantizers: export the prepared network with torch.onnx.export(..., dynamo=False) after "
        ".eval() and .apply(torch.ao.quantization.disable_observer), and give that .onnx file, which has its scales"
    )


def _first(checkpoint: Checkpoint, asked: Iterable[Network]) -> tuple[Network, Mapping[str, Any]] | None:
    for network in asked:
        config = network.recognize(_shapes(renamed(checkpoint, network)))
        if config is not None:
            return network, config
    return None


def _closest(checkpoint: Checkpoint, networks: list[Network]) -> str:
    """The differences to the configuration that these keys resemble most."""
    for network in networks:
        given = _shapes(renamed(checkpoint, network))
        config = network.resemble(given)
        if config is not None:
            lines = _differences(_built_shapes(network, config), given)
            return "\n".join([f"; compared with the closest {network.name}:", *(f"    {line}" for line in lines)])
    first = ", ".join(list(checkpoint.tensors)[:3])
    return f" (it has {len(checkpoint.tensors)} entries: {first}, ...)"


def _built_shapes(network: Network, config: Mapping[str, object]) -> dict[str, tuple[int, ...]]:
    """Shapes of the network's entries, found without allocating them."""
    import torch

    with torch.device("meta"):
        return _shapes(network.build(config).state_dict())


# --- what `ulsam-deploy new` wrote ------------------------------------------------------------------------------------


def _declared(checkpoint: Checkpoint) -> tuple[Network, Mapping[str, Any]] | None:
    """The network that the file names, checked against its weights; ``None`` if it names none that is installed."""
    declared = checkpoint.metadata.get("ulsam_deploy")
    name = declared.get("network") if isinstance(declared, dict) else None
    if not isinstance(declared, dict) or not isinstance(name, str) or name not in _networks():
        return None
    network, config = _networks()[name], declared.get("config")
    given = _shapes(renamed(checkpoint, network))
    seen = network.recognize(given)
    if not isinstance(config, dict) or seen is None or not _plausible(config, _as_json(seen)):
        raise _contradiction(checkpoint, network)
    try:
        wanted = _built_shapes(network, config)
    except UsageError as error:
        raise _contradiction(checkpoint, network) from error
    if _differences(wanted, given):
        raise _contradiction(checkpoint, network)
    return network, config


def _plausible(declared: Mapping[str, object], seen: Mapping[str, object]) -> bool:
    """Whether building ``declared`` is safe: it may differ from ``seen`` in strings, and slightly in floats.

    Several widths build the same network, and keys do not reveal the ULSAM variant, but they do show counts and
    positions. An untrusted file must not cause a network of ten million layers to be built just to find that it does
    not fit.
    """
    for key in declared:
        told, found = declared[key], seen.get(key)
        if told == found or (isinstance(told, str) and isinstance(found, str)):
            continue
        if not (isinstance(found, float) and isinstance(told, int | float) and abs(told - found) <= 0.25 * found):
            return False
    return True


def _as_json(config: Mapping[str, object]) -> dict[str, Any]:
    plain: dict[str, Any] = json.loads(json.dumps(dict(config)))
    return plain


def _contradiction(checkpoint: Checkpoint, network: Network) -> ExportError:
    return ExportError(
        f"'{checkpoint.name}' says that it is {network.name} with a configuration that its weights contradict",
        expected="the weights that this configuration builds",
        todo=f"name the network yourself: --arch {network.name}",
    )
