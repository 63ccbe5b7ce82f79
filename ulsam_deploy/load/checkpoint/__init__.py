"""Safe reading of a checkpoint into tensors, and the network that they belong to.

A checkpoint is an untrusted file: nothing in it runs unless the user allows it by name. Networks are found through
entry points; this package never imports one itself.
"""

from ulsam_deploy.load.checkpoint.factory import from_factory
from ulsam_deploy.load.checkpoint.memory import InMemory, from_module
from ulsam_deploy.load.checkpoint.networks import (
    build,
    check_shape,
    identify,
    input_shape,
    is_known,
    recognized,
    remarks,
)
from ulsam_deploy.load.checkpoint.reading import Checkpoint, read
from ulsam_deploy.load.checkpoint.writing import write

__all__ = [
    "Checkpoint",
    "InMemory",
    "build",
    "check_shape",
    "from_factory",
    "from_module",
    "identify",
    "input_shape",
    "is_known",
    "read",
    "recognized",
    "remarks",
    "write",
]
