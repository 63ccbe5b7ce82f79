"""Work in another process: a :mod:`.job` answers one request, a :mod:`.worker` answers many.

Both send frozen dataclasses through one codec (:mod:`.message`), including errors (:mod:`.failure`), and both end when
the process that started them ends (:mod:`.process`). Standard library and numpy; device-safe.
"""
