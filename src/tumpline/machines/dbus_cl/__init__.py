"""A node's use of a convergence-layer agent over D-Bus, without I/O: calls out, replies and signals in, effects out."""
