"""A backend for ulsam-deploy that lives in a package of its own: target ``pt2``, torch.export's own files."""
