"""The benches in Python: speed, memory, scaling and accuracy of quantcal."""
