"""A file becomes a network: checkpoints, a user's own code, models that arrive as ONNX."""
