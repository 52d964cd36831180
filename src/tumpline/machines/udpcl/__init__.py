"""The UDP convergence layer without I/O: bundles into datagrams, and back."""
