"""Target ``onnx``: one self-contained ``model.onnx`` for ONNX Runtime."""
