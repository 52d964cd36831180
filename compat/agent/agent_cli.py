"""`agent.agent_cli:main`, for scripts that start the agent so."""

from __future__ import annotations

from tumpline.ui.agents.ioppytest import main

__all__ = ["main"]
