"""The older packet agent's package of this name, as far as it was commands: tumpline carries them out."""
