"""What the benches share: timing in turns, targets, records, and the data they measure on."""
