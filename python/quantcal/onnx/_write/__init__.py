"""Write a planned model: quantized weights, Q/DQ pairs, files."""
