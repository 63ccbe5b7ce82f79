"""The numbers by which a check decides, for whoever compares with them; standard library only, and no more than this.

A command's own words name them (``--budget``, ``--help``) without loading the arithmetic behind them.
"""

from __future__ import annotations

#: The one multiple of the noise floor that is allowed: sound engines sum in other orders and with other algorithms
#: (Winograd, fused batch norms) than the few runs that made the floor.
TOLERANCE = 8.0

#: And of int8's: rounding is most of its floor, and engines differ in how they sum by far less than that. Artifacts of
#: three engines were seen at 0.8 to 1.3x noise; a wider tolerance would let a constant pass.
INT8_TOLERANCE = 3.0

#: From here on a block counts as whole, and up to here as lost. Sound fp16 artifacts were seen at 0.96 and above,
#: lost blocks at 0.03 and below (fp32: both exact to three digits); 0.1 leaves room on either side.
KEPT, LOST = 0.9, 0.1
