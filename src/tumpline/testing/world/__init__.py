"""A whole network in one process and no time at all: nodes are their machines, wires are fault policies, chance is a seed.

`World(seed)` owns the only clock. Step: take the earliest event, set `now`, deliver, drain every machine, look whether
anything promised was broken. The same seed gives the same digest, whatever the hash seed of the interpreter.
"""

from tumpline.testing.world.checks import BrokenPromiseError
from tumpline.testing.world.node import SimNode
from tumpline.testing.world.simulation import World
from tumpline.testing.world.wire import Faults

__all__ = ["BrokenPromiseError", "Faults", "SimNode", "World"]
