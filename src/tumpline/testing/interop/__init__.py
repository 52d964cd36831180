"""Programs that nobody here wrote, installed from package registries and run as peers on loopback (docs/interop.md)."""
