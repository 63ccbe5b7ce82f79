"""Warnings of torch's own export code, on which no user can act."""

#: Regular expressions for the start of each message, for :func:`ulsam_deploy.device.third_party.quiet`.
TORCH_WARNINGS = (r"`isinstance\(treespec, LeafSpec\)` is deprecated",)

#: The same for litert-torch and the packages that it imports.
LITERT_WARNINGS: tuple[str, ...] = ()
