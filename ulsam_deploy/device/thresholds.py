"""The thresholds of the checks. Standard library only; nothing else belongs in this module.

The command line uses them (``--budget``, ``--help``) without importing the numerical code.
"""

from __future__ import annotations

#: The allowed multiple of the noise floor: sound engines sum in other orders and with other algorithms (Winograd,
#: fused batch norms) than the few control runs behind the floor.
TOLERANCE = 8.0

#: The same for int8: most of its floor is rounding, and engines differ in how they sum by far less than that. Artifacts
#: of three engines were at 0.8 to 1.3x noise; a wider tolerance would let a constant pass.
INT8_TOLERANCE = 3.0

#: The retention from which a block's attention counts as kept, and up to which as lost. Sound fp16 artifacts were at
#: 0.96 and above, lost blocks at 0.03 and below (fp32: both exact to three digits); 0.1 leaves a margin on both sides.
KEPT, LOST = 0.9, 0.1
