"""The command line as far as a board needs it: what all commands share; ``doctor``, ``build``, ``verify``, ``bench``.

On the host, ``cli`` adds its own commands, and to some of these what only a host can do.
"""
