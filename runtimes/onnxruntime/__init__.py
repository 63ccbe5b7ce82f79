"""Engine ``onnxruntime``: ONNX Runtime."""
