"""Everything that travels to a board, in ``runner.pyz`` with the runtimes: standard library and numpy only."""
