"""Execution providers: refused where onnxruntime would silently use the CPU instead."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from quantcal._core import CalibrationError
from quantcal.onnx._model.optional import require

if TYPE_CHECKING:
    import onnxruntime


def check_providers(providers: Sequence[str] | None) -> None:
    """Refuse providers that this onnxruntime does not have.

    Raises
    ------
    CalibrationError
        Names the provider and those that are available.
    """
    if not providers:
        return
    require()
    import onnxruntime as ort

    available = ort.get_available_providers()
    for name in providers:
        if name in available:
            continue
        reason = "onnxruntime has no provider of this name"
        if name in ort.get_all_providers():
            reason = "the installed onnxruntime was built without it"
        close = difflib.get_close_matches(name, available, n=1)
        meant = f" Did you mean {close[0]}?" if close else ""
        raise CalibrationError(
            f"providers: {name!r} is not available, as {reason}.{meant} Available: "
            f"{', '.join(available)}."
        )


def check_session(
    session: onnxruntime.InferenceSession, providers: Sequence[str], label: str
) -> None:
    """Refuse a session that runs without one of its providers.

    A provider that cannot start, such as CUDA without its libraries, is left out by
    onnxruntime.

    Raises
    ------
    CalibrationError
        Names the model, the provider and those that the session has.
    """
    used = session.get_providers()
    missing = [name for name in providers if name not in used]
    if missing:
        raise CalibrationError(
            f"onnxruntime cannot run {label} with {missing[0]}: it would use "
            f"{', '.join(used)}. Install what the provider needs, or leave it out of "
            "providers."
        )
