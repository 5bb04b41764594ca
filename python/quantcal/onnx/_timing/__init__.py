"""What integers gain on this machine: times of nodes, in float and as integer kernels."""
