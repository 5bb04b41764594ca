"""Running a model: sessions, child processes, samples, memory and progress."""
