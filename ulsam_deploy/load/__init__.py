"""Loads a network from a checkpoint, the user's own code, or an ONNX model."""
