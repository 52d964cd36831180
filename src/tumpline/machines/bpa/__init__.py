"""The bundle agent's procedures (RFC 9171 §5), one module each; `tumpline.machines.node` composes them."""
