"""Trials: one open session that computes a quantized model with any ranges."""
