"""Tests, in the tree of what they test. A package, so that no other one called tests is taken for it."""
