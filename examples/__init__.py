"""Examples to copy from; run them in this repository's folder, as ``python -m examples.NAME``."""
