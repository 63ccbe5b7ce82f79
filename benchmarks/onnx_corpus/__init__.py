"""ONNX files as people make them, and what becomes of them on the pipeline."""
