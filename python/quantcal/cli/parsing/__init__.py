"""The command line itself: its commands, their help and errors of usage."""
