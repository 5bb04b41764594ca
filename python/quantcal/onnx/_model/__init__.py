"""Reading a model from whatever holds it, and making its forms usual."""
