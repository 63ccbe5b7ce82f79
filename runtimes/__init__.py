"""Wing: one file an engine; all but :mod:`.pytorch` run on a device with numpy and the engine alone."""
