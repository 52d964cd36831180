"""`python3 -m ioppytest.packet_router COAP_CFG_01`: `tumpline router --config COAP_CFG_01`, where AMQP_URL says."""

from __future__ import annotations

import sys

from tumpline.ui.agents.packet_router import main

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(main())
