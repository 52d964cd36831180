"""Configuration files of the older agent: read as they are, with every mistake by its line (docs/older-agent.md)."""
