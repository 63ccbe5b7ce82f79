"""Target ``ncnn``: ``model.param``, ``model.bin``, and the options to run them with."""
