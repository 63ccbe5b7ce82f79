"""Runs the PyTorch network itself on labelled data, for paired comparison with artifacts. Host only."""

from __future__ import annotations

from collections.abc import Sequence

from ulsam_deploy.device import plugins
from ulsam_deploy.device.accuracy import Hits, Labelled, hits
from ulsam_deploy.device.bundle import ModelCard
from ulsam_deploy.device.errors import UsageError
from ulsam_deploy.device.types import TensorSpec
from ulsam_deploy.load import source
from ulsam_deploy.load.options import LoadOptions

#: Its name where artifacts are paired with it.
PARTNER = "PyTorch"


def of_card(options: LoadOptions, card: ModelCard, data: Labelled) -> Hits:
    """Which samples the checkpoint ``options.model`` gets right; raises :class:`UsageError` if it is not ``card``'s.

    Also raises what :func:`ulsam_deploy.load.source.load` raises.
    """
    digest = source.file_digest(options)
    if digest != card.sha256:
        raise UsageError(
            f"'{options.model}' is not the checkpoint that this bundle was made from (SHA-256 {digest[:12]}...)",
            expected=f"SHA-256 {card.sha256[:12]}...",
            todo="pair with the right file, or leave --against out",
        )
    return of_module(source.load(options).model, card.inputs, card.outputs, data)


def of_module(module: object, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], data: Labelled) -> Hits:
    """Which samples the network ``module``, in ``eval`` mode, gets right in float32."""
    engine = plugins.load(plugins.RUNTIMES, "pytorch")
    with engine.of(module, inputs, outputs) as runtime:
        return hits(runtime.run, inputs, outputs, data)
