"""Warnings that torch's own export code raises about itself, and that no user can act on."""

#: Starts of messages, as regular expressions, for :func:`ulsam_deploy.device.third_party.quiet`.
TORCH_WARNINGS = (r"`isinstance\(treespec, LeafSpec\)` is deprecated",)

#: What litert-torch and the packages that it imports say about themselves.
LITERT_WARNINGS: tuple[str, ...] = ()
