"""Train in PyTorch, ship to the edge, with proof: the export toolchain for compact CNNs with ULSAM attention."""
