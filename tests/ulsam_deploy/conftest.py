"""The reference checkpoint, where a test needs a trained network."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def checkpoint() -> Path:
    return Path(__file__).parents[2] / "models" / "cluttered_digits.pt"
