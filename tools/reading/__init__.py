"""Reading a source tree: its files, and the texts that stand in them."""
