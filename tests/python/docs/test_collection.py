"""The samples of the bench of methods: equal every time, and of two disjoint sets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("PIL")

from benches.accuracy.collection import drawings, images, sounds

Array = np.ndarray[Any, Any]


@pytest.fixture
def halves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Photographs that are black where calibration crops and bright where others do."""
    picture = np.zeros((300, 400, 3), np.uint8)
    picture[:, 220:] = 250
    monkeypatch.setattr(images, "photographs", lambda: {"a": picture, "b": picture})


def test_crops_of_the_two_sets_share_no_pixel(halves: None) -> None:
    first, second = (images.crops(30, 40, s) for s in ("calibration", "evaluation"))
    # Noise has a deviation of 3. Light is 0.6 at least, and corners of rotations are black.
    assert max(crop.max() for crop in first) < 20
    assert min(np.median(crop) for crop in second) > 120


def test_crops_do_not_depend_on_their_number(halves: None) -> None:
    few, many = images.crops(3, 40, "evaluation"), images.crops(6, 40, "evaluation")
    assert all(np.array_equal(a, b) for a, b in zip(few, many[:3], strict=True))
    assert not np.array_equal(many[0], many[1])


def test_music_is_in_range_and_equal_every_time() -> None:
    first, second = sounds.music(4, "calibration"), sounds.music(4, "calibration")
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
    assert all(x.shape == (sounds.MUSIC_SAMPLES,) for x in first)
    assert all(0.04 < np.abs(x).max() <= 0.91 for x in first)
    other = sounds.music(4, "evaluation")
    assert not any(np.array_equal(a, b) for a in first for b in other)


@pytest.mark.model  # the fonts are fetched if the system has none
def test_lines_and_pages_are_turned_as_their_labels_say() -> None:
    lines, labels = drawings.turned_lines(4, "evaluation")
    assert labels == [0, 1, 0, 1]
    assert all(x.shape == (48, 192, 3) and np.abs(x).max() <= 1 for x in lines)
    puzzles = drawings.puzzles(5, "evaluation")
    again = drawings.puzzles(5, "evaluation")
    assert all(np.array_equal(a, b) for a, b in zip(puzzles, again, strict=True))
    assert {p.shape[0] for p in puzzles} == {64}
