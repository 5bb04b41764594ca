"""What every strategy would do to each tensor: range, error and time."""
