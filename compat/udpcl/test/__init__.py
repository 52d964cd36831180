"""The older demo agent's programs for trials."""
