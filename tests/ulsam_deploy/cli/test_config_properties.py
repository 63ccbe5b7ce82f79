"""Whatever a file of words or of device profiles says, the answer is words or an error in words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ulsam_deploy.cli.parser import COMMANDS, build_parser
from ulsam_deploy.device.commands import config
from ulsam_deploy.device.errors import RefusedError, UsageError
from ulsam_deploy.device.profiles.profile import decode_profile, read_profiles
from ulsam_deploy.device.toml import parse

shared = settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\x7f", min_codepoint=32), max_size=8)
VALUES = st.recursive(
    st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=4,
)
KNOWN = sorted(config.keys(build_parser(["export"]).commands["export"]))
KEYS = st.sampled_from(KNOWN) | TEXT


def toml(tables: dict[str, dict[str, Any]]) -> str:
    """TOML writes these values as JSON does."""
    return "".join(
        f"[{json.dumps(name)}]\n"
        + "".join(f"{json.dumps(key)} = {json.dumps(value)}\n" for key, value in table.items())
        for name, table in tables.items()
    )


@shared
@given(table=st.dictionaries(KEYS, VALUES, max_size=4))
def test_words_from_a_file_are_words_or_refused_in_words(tmp_path: Path, table: dict[str, Any]) -> None:
    path = tmp_path / "words.toml"
    path.write_text(toml({"export": table}), encoding="utf-8")
    try:
        words = config.merged(build_parser(COMMANDS), ["export", "--config", str(path)])
    except (UsageError, RefusedError):
        return
    assert all(isinstance(word, str) for word in words)
    assert set(table) <= set(KNOWN), "an unknown key is an error"


@shared
@given(
    name=TEXT.filter(bool),
    table=st.dictionaries(TEXT | st.sampled_from(["like", "title", "budget"]), VALUES, max_size=4),
)
def test_a_device_profile_is_one_or_refused_in_words(name: str, table: dict[str, Any]) -> None:
    def read() -> None:
        (found,) = read_profiles(parse(toml({name: table}), "mine.toml"), "mine.toml").values()
        decode_profile(name, found, "mine.toml")

    with pytest.raises(UsageError, match=r"mine\.toml"):  # so little is no profile, however it reads
        read()
