"""What quantization costs in accuracy; these write pages of the documentation."""
