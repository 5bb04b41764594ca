"""Rounded tensors that are moved and then read inside If, Loop and Scan."""

from __future__ import annotations

import subprocess
import sys

import pytest

import captured_models


@pytest.mark.parametrize("body", captured_models.BODIES)
def test_a_rounded_tensor_may_be_moved_and_read_inside_a_body(body: str) -> None:
    """onnxruntime used to abort on the written models, so they run in another process."""
    done = subprocess.run(
        [sys.executable, captured_models.__file__, body],
        capture_output=True,
        text=True,
        check=False,
    )
    rows = [line.split() for line in done.stdout.splitlines()]
    assert [move for move, _ in rows] == list(captured_models.MOVES), done.stderr
    assert min(float(decibels) for _, decibels in rows) > 25
