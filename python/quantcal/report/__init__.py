"""Results as tables in text and HTML, and as pictures.

One file per picture; matplotlib is imported when one is drawn.
"""
