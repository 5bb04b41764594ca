"""The parts of `benches.accuracy.choosing`: methods, their loss, its page."""
