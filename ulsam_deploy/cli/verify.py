"""``ulsam-deploy verify`` on the host: a bundle here, on boards, or emulated; or any artifact against a checkpoint."""

from __future__ import annotations

import argparse
from functools import partial

from ulsam_deploy.cli.arguments import model_options
from ulsam_deploy.device.accuracy import Labelled
from ulsam_deploy.device.bundle import Bundle
from ulsam_deploy.device.commands import labelled
from ulsam_deploy.device.commands.verify import Means, here, key_owner, verify
from ulsam_deploy.device.errors import Exit
from ulsam_deploy.device.progress import Progress
from ulsam_deploy.device.verify import Checked


def run(arguments: argparse.Namespace) -> Exit:
    """One of the four; they share the table and the meaning of the exit code."""
    if arguments.host:
        from ulsam_deploy.cli import verify_hosts

        return verify_hosts.verify(arguments)
    if arguments.against and not arguments.data:
        from ulsam_deploy.cli import against

        return against.run(arguments)
    check = _emulated if arguments.device else here
    partner: labelled.Partner = partial(_pytorch, arguments) if arguments.against else labelled.first_float
    return verify(
        arguments, Means(partial(check, arguments), arguments.device or "", partial(_signer, arguments), partner)
    )


def _emulated(arguments: argparse.Namespace, bundle: Bundle, targets: tuple[str, ...]) -> list[Checked]:
    """Every artifact as it is on the emulated board that was asked for."""
    from ulsam_deploy.boards import emulate

    return emulate.verify_bundle(bundle, arguments.device, targets, Progress(beat=not arguments.json))


def _signer(arguments: argparse.Namespace, bundle: Bundle) -> str | None:
    """Who made the bundle, by key or by identity; ``None`` where nobody asked."""
    if not arguments.identity:
        return key_owner(arguments, bundle)
    from ulsam_deploy.exporting import signing

    signing.check_identity(bundle, arguments.identity, arguments.issuer)
    return str(arguments.identity)


def _pytorch(
    arguments: argparse.Namespace,
    bundle: Bundle,
    _seen: labelled.Seen,
    data: Labelled,
) -> labelled.Named:
    """The PyTorch network of ``--against``."""
    from ulsam_deploy.exporting.options import ExportOptions
    from ulsam_deploy.load import eager

    options = ExportOptions(arguments.against, **model_options(arguments))
    return eager.PARTNER, eager.of_card(options, bundle.manifest.model, data)
