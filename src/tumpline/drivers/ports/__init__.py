"""Ports: where packets come from and go to on this machine. One module = one kind of port; it ends with SPEC."""
