"""The corrections of one run of ``quantize``: which were asked for, and when each happens.

The channels of the float model are scaled before it is observed, so that its ranges are
those of the scaled one. Biases are corrected when the ranges are known.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from quantcal._core import CalibrationError
from quantcal.onnx._correct.bias_correction import correct_biases
from quantcal.onnx._correct.equalization import equalize
from quantcal.onnx._correct.report import Correction
from quantcal.onnx._correct.smoothing import smooth
from quantcal.onnx._model.model import LoadedModel, model_inputs
from quantcal.onnx._runtime.samples import Samples, as_samples

if TYPE_CHECKING:
    from collections.abc import Sized

    from quantcal.onnx._graph.inputs import Feed
    from quantcal.onnx._options.cpu import WeightBits
    from quantcal.onnx._options.resolved import Options
    from quantcal.onnx._plan.preparation import Prepared
    from quantcal.params import QuantParams


class Corrections:
    """Corrects the model of one run.

    Parameters
    ----------
    loaded : LoadedModel
        The float model, which is not changed.
    options : Options
        Their ``corrections`` are done, in a fixed order.
    samples : object
        As :func:`quantcal.onnx.quantize` takes them; None without samples.
    calibrator : Calibrator, optional
        The histograms of earlier runs.

    Attributes
    ----------
    loaded : LoadedModel
        The float model with scaled channels.
    samples : object
        The samples, to be read again from the first.
    done : list of Correction

    Raises
    ------
    CalibrationError
        When there are no samples, or they can be read only once. When the calibrator has
        observed the uncorrected model. When a correction would change the float model.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        options: Options,
        samples: object,
        calibrator: Sized | None,
    ) -> None:
        self.loaded = loaded
        self.samples = samples
        self.done: list[Correction] = []
        self._asked = options.corrections
        if not self._asked:
            return
        _check_histograms(self._asked, calibrator)
        if samples is None:
            self._refuse_without_samples()
        if self._asked == ("bias",):
            return
        feeds = self._rewindable(samples)
        if "equalize" in self._asked:
            self.loaded, made = equalize(self.loaded, feeds)
            self.done.append(made)
        if "smooth" in self._asked:
            _check_smoothing(options)
            self.loaded, made = smooth(
                self.loaded,
                feeds,
                format=options.activation_type,
                weights=options.weight_type,
            )
            self.done.append(made)

    def _rewindable(self, samples: object) -> Samples:
        """Return the samples, which every correction reads from the first."""
        listed = ", ".join(self._asked)
        feeds = as_samples(samples, model_inputs(self.loaded.proto))
        if not feeds.rewindable:
            raise CalibrationError(
                f"The corrections {listed} read the samples several times, but these can "
                "be read only once. Give a list, a folder, or a data reader with rewind()."
            )
        self.samples = feeds
        return feeds

    def _refuse_without_samples(self) -> None:
        raise CalibrationError(
            f"The corrections {', '.join(self._asked)} need samples, and there are none. "
            "Give samples, or leave out corrections= (--correct)."
        )

    def biases(
        self,
        prepared: Prepared,
        ranges: Mapping[str, QuantParams],
        bits: WeightBits,
        samples: Iterable[Feed],
    ) -> Prepared:
        """Return the prepared model with corrected biases.

        Parameters
        ----------
        prepared, ranges, bits
            As for :func:`correct_biases`.
        samples : iterable of feed
            The first samples of the calibration.
        """
        changed, made = correct_biases(prepared, ranges, bits, samples)
        self.done.append(made)
        return changed


def _check_histograms(asked: tuple[str, ...], calibrator: Sized | None) -> None:
    """Refuse histograms of the model whose channels were not scaled."""
    scaled = [name for name in asked if name != "bias"]
    if scaled and calibrator:
        raise CalibrationError(
            f"The correction {scaled[0]} changes the activations, so histograms of an "
            "earlier run do not fit. Give an empty calibrator (no --from or --resume), or "
            "leave out the correction."
        )


def _check_smoothing(options: Options) -> None:
    if options.weights_only:
        raise CalibrationError(
            'The correction "smooth" moves outliers of activations into weights, but '
            "activations stay in float here. Leave it out."
        )
