"""Record tensors while samples run, and compute their ranges."""
