"""What was found, for people to look at: tables as text and HTML, and pictures.

One file a picture; they need matplotlib, which is imported when one is drawn.
"""
