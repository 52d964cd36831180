"""The older demo agent's commands, word for word: `tcpcl-agent`, `udpcl-agent`, `bp-agent` (docs/older-agent.md)."""
