"""Let onnxruntime's `quantize_static` calibrate with this library."""
