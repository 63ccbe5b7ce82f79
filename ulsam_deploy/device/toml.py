"""``loads`` for TOML, from the standard library where it has it. Not for the device runner, which travels alone."""

import sys

if sys.version_info >= (3, 11):
    from tomllib import loads
else:
    from tomli import loads

__all__ = ["loads"]
