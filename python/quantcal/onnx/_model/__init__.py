"""Reading a model from a path, bytes or an object, and normalizing it."""
