"""Quantizes one model with onnxsim: METHOD FOLDER OUTPUT, in an interpreter that has it.

FOLDER has `float.onnx` and the samples as `.npz` files. Nothing of the project is imported.
The model is simplified first: without its shapes, onnxsim leaves most operators in float. The
last line of the output is JSON: the peak memory above the start, and what was picked.
"""

import json
import resource
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxsim


def main() -> None:
    """Write the quantized model."""
    method, folder, output = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    samples = [dict(np.load(path)) for path in sorted(folder.glob("*.npz"))]
    model, _ = onnxsim.simplify(onnx.load(folder / "float.onnx"))
    start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    report: dict[str, object] = {}
    if method == "pick":
        picked = onnxsim.pick_calibration(model, samples, folds=4)
        made, report["picked"] = picked.model, picked.method
    else:
        made = onnxsim.quantize_static(model, samples, method=method)
    onnx.save(made, output)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    report["mebibytes"] = (peak - start) / 1024
    print(json.dumps(report))


if __name__ == "__main__":
    main()
