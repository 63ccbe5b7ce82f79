"""A fresh machine: tests for want of a program skip, in a sentence that says what to install."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from . import needs
from .sources import ROOT

pytest_plugins = ["pytester"]


@pytest.fixture
def hidden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """:mod:`tests.needs` as it is read where neither PATH nor the usual places have any of the programs."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("ULSAM_DEPLOY_TEST_PLACES", "")
    spec = importlib.util.spec_from_file_location("hidden_needs", needs.__file__)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("program", needs.PACKAGES)
def test_a_program_that_is_hidden_is_not_found_and_its_package_is_named(hidden: ModuleType, program: str) -> None:
    assert hidden.where(program) is None
    sentence = hidden.lacking([program])
    assert sentence.startswith(f"needs {program}: apt-get install ")
    assert set(needs.PACKAGES[program]) <= set(sentence.split())


def test_a_program_is_also_found_where_only_root_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(needs, "PLACES", str(tmp_path))
    (tmp_path / "sshd").touch(0o755)
    assert needs.where("sshd") == str(tmp_path / "sshd")
    assert needs.lacking(["sshd"]) == ""
    assert "openssh-server" not in needs.missing()


@pytest.mark.parametrize(("required", "outcome"), [("", "skipped"), ("1", "failed")])
def test_a_marked_test_skips_and_where_everything_must_run_it_fails(
    required: str, outcome: str, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(needs, "where", lambda _program: None)
    monkeypatch.setenv("ULSAM_DEPLOY_TEST_ALL", required)
    (pytester.path / "conftest.py").write_text(
        "from tests.conftest import pytest_itemcollected, pytest_runtest_setup\n"
        "def pytest_configure(config):\n"
        "    for mark in ('needs(*programs)', 'arm', 'browser'): config.addinivalue_line('markers', mark)\n"
    )
    (pytester.path / "test_it.py").write_text(
        "import pytest\n"
        "@pytest.mark.needs('sshd', 'ssh')\ndef test_marked(): pass\n"
        "@pytest.mark.arm\ndef test_by_its_other_mark(): pass\n"
        "def test_plain(): pass\n"
    )
    result = pytester.inline_run("-m", "needs")
    calls = [report for report in result.getreports("pytest_runtest_logreport") if getattr(report, outcome)]
    said = [report.longreprtext if outcome == "failed" else str(report.longrepr) for report in calls]
    assert len(said) == 2
    assert "needs ssh, sshd: apt-get install --no-install-recommends openssh-client openssh-server" in said[0]
    assert "needs cc, qemu-aarch64: " in said[1]


def test_the_bare_folder_has_what_a_fresh_debian_has(tmp_path: Path) -> None:
    if not needs.where("dpkg-query"):
        pytest.skip("this is no Debian: there is no dpkg-query")
    command = [sys.executable, str(ROOT / "tests" / "needs.py"), "bare", str(tmp_path / "bin")]
    subprocess.run(command, check=True)
    has = set(os.listdir(tmp_path / "bin"))  # noqa: PTH208  names
    assert {"bash", "sh", "make", "python3", "grep", "find", "apt-get"} <= has
    assert not has & {*needs.PACKAGES, "gcc", "git", "scp", "openssl"}
    words = [str(tmp_path / "bin" / "python3"), "-c", "import sys; print(sys.version_info[:2])"]
    done = subprocess.run(words, env={"PATH": str(tmp_path / "bin")}, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(tuple(sys.version_info[:2]))


def test_the_readme_names_the_one_line_that_makes_them_run() -> None:
    assert needs.install_line() in (ROOT / "README.md").read_text()
