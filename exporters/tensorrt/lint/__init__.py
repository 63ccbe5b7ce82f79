"""Checks of a model before any engine opens it. Each module is imported where it is used: some need onnx."""
