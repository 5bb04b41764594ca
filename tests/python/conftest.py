"""Settings and fixtures that all tests share."""

from __future__ import annotations

import os
from collections.abc import Iterator

# Before numpy is loaded: research/llm runs one thread a core, and none in numpy's library.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import pytest
from hypothesis import HealthCheck, settings

import quantcal as qc

# Seeds are fixed, so that a failure comes back. QUANTCAL_MAX_EXAMPLES turns the properties up.
settings.register_profile(
    "quantcal",
    max_examples=int(os.environ.get("QUANTCAL_MAX_EXAMPLES", "50")),
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("quantcal")


@pytest.fixture
def in_child() -> None:
    """Ask for the process that loads models first; see the next one."""


@pytest.fixture(autouse=True)
def _models_are_loaded_here(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Spare most tests the third of a second that starting that process takes."""
    if "in_child" not in request.fixturenames:
        monkeypatch.setattr(
            "quantcal.onnx._runtime.child_process._python", lambda: None
        )


@pytest.fixture
def keep_num_threads() -> Iterator[None]:
    """Put the number of threads back after a test that changes it."""
    before = qc.get_num_threads()
    yield
    qc.set_num_threads(before)
