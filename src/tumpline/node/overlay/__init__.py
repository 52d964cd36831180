"""The packet overlay: agents and routers that share a session at a broker."""
