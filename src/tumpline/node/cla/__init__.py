"""Convergence-layer agents: one link without a bundle agent, steered transfer by transfer."""
