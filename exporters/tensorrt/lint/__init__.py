"""What can be said about a model before any engine sees it. Each part is imported where it is used: some need onnx."""
