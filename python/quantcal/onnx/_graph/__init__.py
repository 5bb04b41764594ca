"""Reading ONNX graphs: nodes, scopes, constants, weights and inputs."""
