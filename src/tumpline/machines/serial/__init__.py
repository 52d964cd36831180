"""A radio probe on a serial line: how frames cross the line (dialects), and which of them cross it at all (the line)."""
