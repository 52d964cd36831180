"""A CoAP server with a resource longer than a packet, by aiocoap: `python -m tumpline.testing.coap_server ADDRESS`."""

from __future__ import annotations

import asyncio
import sys
from importlib import import_module
from typing import Any, Final

LONG: Final = "".join(f"{number:04} " for number in range(300)).strip()  # 1499 octets


async def serve(address: str) -> None:
    """Until it is killed."""
    aiocoap: Any = import_module("aiocoap")
    resource: Any = import_module("aiocoap.resource")

    class Long(resource.Resource):  # type: ignore[misc]
        async def render_get(self, _request: Any) -> Any:
            return aiocoap.Message(payload=LONG.encode())

    site = resource.Site()
    site.add_resource(["long"], Long())
    context = await aiocoap.Context.create_server_context(site, bind=(address, None), transports=["udp6"])
    try:
        await asyncio.get_running_loop().create_future()
    finally:
        await context.shutdown()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
