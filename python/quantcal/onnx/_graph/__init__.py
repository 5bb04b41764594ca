"""Graphs as they are: nodes, scopes, constants, weights, inputs."""
