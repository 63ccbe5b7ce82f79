"""Examples to copy; run them in this repository's folder with ``python -m examples.NAME``."""
