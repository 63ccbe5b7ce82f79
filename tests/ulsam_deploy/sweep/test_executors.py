"""What a sweep is told where there is nobody to do its work; local processes are in test_workers.py."""

from __future__ import annotations

import pytest

from ulsam_deploy.device.errors import UnavailableError
from ulsam_deploy.sweep import executors


def test_no_scheduler_is_said_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    distributed = pytest.importorskip("distributed")
    patient = distributed.Client
    monkeypatch.setattr(distributed, "Client", lambda address, timeout, **more: patient(address, timeout=0.1, **more))
    with (
        pytest.raises(UnavailableError, match="no Dask scheduler answers"),
        executors.executor("tcp://127.0.0.1:9", 1, 1),
    ):
        pass
