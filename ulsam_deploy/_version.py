"""The one place that states the version, and what recipes and messages install."""

__version__ = "0.1.0"

#: The tag of a release, ``v0.1.0``. Until the first one there is none, and it is the branch: see ``docs/releasing.md``.
REF = "main"
