"""The rules of the project's language, and what breaks them."""
