"""Decoders and machines under mutated real traffic: `./dev fuzz [NAME] [SECONDS]`. See fuzz/README.md."""
