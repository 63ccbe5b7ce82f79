"""Target ``openvino``: the IR pair ``model.xml`` and ``model.bin``."""
