"""Engine ``tensorrt``: TensorRT and TensorRT for RTX."""
