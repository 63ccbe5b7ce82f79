"""The check is broken on purpose, and its tests must notice; ``benchmarks/checker_mutations.py`` has the whole list."""

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[4]
UNITS = [f"tests/ulsam_deploy/device/parity/{name}.py" for name in ("test_check", "test_retention", "test_noise")]


@pytest.fixture(scope="module")
def mutations():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        yield import_module("checker_mutations")


@pytest.mark.parametrize("what", ["tolerance times 100", "retention switched off"])
def test_a_broken_check_makes_its_tests_fail(mutations: Any, what: str) -> None:
    (mutation,) = [each for each in mutations.MUTATIONS if each.what == what]
    failed, passed = mutations.tried(mutation, "--exitfirst", *UNITS)
    assert failed > 0, f"{passed} tests pass with {what}"


def test_a_change_that_breaks_nothing_fails_nothing(mutations: Any) -> None:
    """The plug-in itself is not what makes tests fail."""
    same = mutations.Mutation("nothing", mutations.THRESHOLDS, "\nTOLERANCE = 8.0", "\nTOLERANCE = 8.0  # the same")
    failed, passed = mutations.tried(same, *UNITS[1:])
    assert failed == 0
    assert passed > 50


def test_every_mutation_finds_its_place(mutations: Any) -> None:
    for mutation in mutations.MUTATIONS:
        assert (ROOT / mutation.file).read_text().count(mutation.old) == 1, mutation.what
