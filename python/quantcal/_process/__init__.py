"""What concerns the whole process: signals, forks, imports."""
