"""Whole sessions of a packet overlay in virtual time: members, the client's machine, the broker's, and lines between them."""

from tumpline.testing.overlay_world.line import LineSpec, SimBroker
from tumpline.testing.overlay_world.older import SimOlder
from tumpline.testing.overlay_world.scenario import Churn, ChurnShape
from tumpline.testing.overlay_world.site import SimSite

__all__ = ["Churn", "ChurnShape", "LineSpec", "SimBroker", "SimOlder", "SimSite"]
