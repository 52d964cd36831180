"""TCPCLv4 (RFC 9174) without I/O: octets and a clock reading go in; octets, events and a next deadline come out.

config.py        what a session is told before it begins
events.py        what it wants, gives and tells
states.py        its states and their transition table
session.py       the session: contact, TLS, SESS_INIT, upkeep, termination
inbound.py       transfers that come: segments in, acknowledgements and refusals out
outbound.py      transfers that go: segments out, acknowledgements and refusals in
sizing.py        how large a segment should be
authenticate.py  whether a certificate vouches for a peer
"""
