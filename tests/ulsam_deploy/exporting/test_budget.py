"""A budget is read from TOML and from words, and refused where it makes no sense."""

from __future__ import annotations

from pathlib import Path

import pytest

from ulsam_deploy.device.errors import UsageError
from ulsam_deploy.exporting.budget import Budget, read_budget


def test_words_win_over_the_file(tmp_path: Path) -> None:
    path = tmp_path / "b.toml"
    path.write_text('[budget]\ndrop = 1\nsize = "40 %"\n')
    assert read_budget(path) == Budget(drop=1, size="40 %")
    assert read_budget(path, ["drop=0.25", "retention=0.95"]) == Budget(drop=0.25, retention=0.95, size="40 %")
    assert read_budget(None) == Budget(None, 8.0, 0.9, "")


@pytest.mark.parametrize(
    ("size", "most"), [("", None), ("40 %", 400.0), ("600 kB", 6e5), ("1.5MB", 1.5e6), ("1 KiB", 1024.0), ("9 B", 9.0)]
)
def test_sizes_have_units(size: str, most: float | None) -> None:
    assert Budget(size=size).check().bytes(1000) == most


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("drop=-1", "drop is -1"),
        ("drop=nan", "drop is nan"),
        ("error=9", "error is 9"),
        ("error=0", "error is 0"),
        ("retention=1.2", "retention is 1.2"),
        ("size=40", "size is '40'"),
        ("size=lots", "size is 'lots'"),
        ("speed=2", "names 'speed'"),
        ("drop", "'drop' is not a limit"),
        ("drop=much", "'drop=much' is not a limit"),
    ],
)
def test_limits_that_make_no_sense(word: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        read_budget(None, [word])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("drop = 1\n", "holds drop"),
        ("[budget]\n[more]\n", "holds budget, more"),
        ('[budget]\ndrop = "1"\n', "drop is '1'"),
        ("[budget]\nsize = 40\n", "size is 40"),
        ("[[budget]]\nmax_size_mb = 1\n", "what 'compare' takes"),
        ("[budget]\nretention = true\n", "retention is True"),
        ("[budget", "isn't valid TOML"),
        ("", "holds nothing"),
    ],
)
def test_files_that_make_no_sense(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "b.toml"
    path.write_text(text)
    with pytest.raises(UsageError, match=said):
        read_budget(path)
    with pytest.raises(UsageError, match="No such file"):
        read_budget(tmp_path / "none.toml")
