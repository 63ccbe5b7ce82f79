"""Work in another process: a :mod:`.job` is one question and its answer, a :mod:`.worker` answers many.

Both carry frozen dataclasses through one codec (:mod:`.message`), errors among them (:mod:`.failure`), and both end
with whoever started them (:mod:`.process`). Standard library and numpy; device-safe.
"""
