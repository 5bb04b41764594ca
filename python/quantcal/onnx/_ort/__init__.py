"""onnxruntime's own `quantize_static` on this engine."""
