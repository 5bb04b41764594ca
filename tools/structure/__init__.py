"""The structure of the project: sizes, imports, options, language."""
