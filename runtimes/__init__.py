"""The runtimes: one module or package for each engine; all but :mod:`.pytorch` need only numpy and the engine."""
