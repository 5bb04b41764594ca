"""Whole processes and whole networks: memory, growth, files, imports, observation."""
