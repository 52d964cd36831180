"""`python3 -m ioppytest.packet_router CONFIG`."""
