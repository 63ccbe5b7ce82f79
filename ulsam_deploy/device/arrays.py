"""The types of arrays, by the one name that each has everywhere; importing this imports no numpy. Device-safe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # numpy stays out of the command line's own words
    from typing import Any, TypeAlias

    import numpy as np

    #: An array of any shape and type; what it must have is said where it is used.
    Array: TypeAlias = np.ndarray[Any, Any]
    #: Arrays by the name of the input or output that they are for.
    ArrayMap: TypeAlias = Mapping[str, Array]
else:
    Array = object
    ArrayMap = Mapping[str, Array]

__all__ = ["Array", "ArrayMap"]
