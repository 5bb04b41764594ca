"""Advice on accuracy: which tensors lose it, why, and what to leave in float.

`result` has what the `advise` functions of frameworks return, `diagnosis` the reasons in words.
Nothing here knows a framework.
"""
