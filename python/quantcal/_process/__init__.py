"""Code for the whole process: signals, forks, imports."""
