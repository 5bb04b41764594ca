"""What the commands print: facts, tables, JSON, warnings and errors."""
