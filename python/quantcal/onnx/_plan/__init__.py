"""Plan which nodes are quantized and which tensors are rounded."""
