"""The HTML report: one file that shows a quantization in words, tables and pictures.

Python turns the results into plain data; the page draws them in the browser.
"""
