"""Random ONNX graphs through :func:`quantcal.onnx.quantize`, and what must hold of each.

``python -m fuzz.run`` is the driver; CONTRIBUTING.md says how to use it.
"""
