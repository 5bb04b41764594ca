"""What will be quantized, where tensors are rounded, and why the rest stays in float."""
