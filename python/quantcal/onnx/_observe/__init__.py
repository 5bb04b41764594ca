"""Recording tensors while samples run, and choosing their ranges."""
