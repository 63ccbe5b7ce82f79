"""A backend for ulsam-deploy in a separate package: target ``pt2``, torch.export's own files."""
