"""The registry of downloadable models: whole hashes, each pinned in one place."""

from __future__ import annotations

import pytest

pytest.importorskip("onnxruntime")

from paths import ROOT
from quantcal.demo import RECOGNIZER
from tests.models import MODELS
from tests.models.export import EXPORTS, NEEDED
from tests.models.photographs import PHOTOGRAPHS

ENTRIES = {**MODELS, **PHOTOGRAPHS}
FOLDERS = ("python", "tests", "benches", "examples", "research")


def test_every_entry_has_a_whole_hash_of_its_own() -> None:
    hashes = [model.sha256 for model in ENTRIES.values()]
    assert all(len(bytes.fromhex(value)) == 32 for value in hashes)
    assert len(set(hashes)) == len(hashes)


def test_every_hash_is_written_once() -> None:
    texts = [p.read_text("utf-8") for f in FOLDERS for p in (ROOT / f).rglob("*.py")]
    for name, model in ENTRIES.items():
        assert sum(text.count(model.sha256) for text in texts) == 1, name


def test_models_and_photographs_have_names_of_their_own() -> None:
    assert not set(MODELS) & set(PHOTOGRAPHS)


def test_the_demo_and_the_registry_share_the_recognizer() -> None:
    assert MODELS["pp-ocr-rec"] is RECOGNIZER


def test_what_is_exported_is_registered() -> None:
    assert set(EXPORTS) == set(NEEDED) <= set(MODELS)
