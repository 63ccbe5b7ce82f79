"""The exporters: one package for each target, and the lowerings, which express ULSAM in each target's operators."""
