"""Tests, in the tree of what they test. A package, so that no other one called tests is taken for it."""

import os

# Like a user who wants one core for each process: the suite runs one process on each core. Must come before numpy.
os.environ.setdefault("OMP_NUM_THREADS", "1")
