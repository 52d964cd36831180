"""All of a node's decisions: the same machine under the runtime and in simulation. (Interface first; see effects.py.)"""

from __future__ import annotations
