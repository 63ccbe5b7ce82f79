"""Type aliases of arrays, used everywhere; importing this module does not import numpy. Device-safe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the command line starts without importing numpy
    from typing import Any, TypeAlias

    import numpy as np

    #: An array of any shape and type; each use documents what it requires.
    Array: TypeAlias = np.ndarray[Any, Any]
    #: Arrays by name of the input or output.
    ArrayMap: TypeAlias = Mapping[str, Array]
else:
    Array = object
    ArrayMap = Mapping[str, Array]

__all__ = ["Array", "ArrayMap"]
