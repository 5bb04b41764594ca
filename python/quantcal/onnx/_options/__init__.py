"""What a user may choose for a quantized model: checked, with defaults, in files and flags."""
