"""Choosing by trials: strategies, and the tensors that lose most."""
