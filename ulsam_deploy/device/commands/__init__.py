"""The part of the command line that a board needs.

That is what all commands share, and ``doctor``, ``build``, ``verify`` and ``bench``. On the host, ``cli`` adds further
commands, and extends some of these by what only a host can do.
"""
