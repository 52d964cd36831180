"""The older packet router's command, carried out by tumpline."""
