"""The node tests of the ONNX project, taken through the import; the parts of ``benchmarks/onnx_node_tests.py``."""
