"""The plainest programs that do the same work: straight loops without an agent around them. They are the yardstick."""
