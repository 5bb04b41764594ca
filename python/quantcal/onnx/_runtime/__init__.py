"""Running a model: sessions, samples, memory, progress."""
