"""The older agent's `container/run.py`, carried out by tumpline's laboratories (docs/lab-older.md)."""
