"""Files and texts: read whole, checked, and written atomically."""
