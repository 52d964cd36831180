"""TCPCLv4 (RFC 9174) without I/O: octets and a clock reading go in; octets, events and a next deadline come out.

config        what a session is told before it begins
events        what it wants, gives and tells
states        its states and their transition table
session       the session: contact, TLS, SESS_INIT, termination; what a driver holds
negotiate     what two SESS_INITs make of a session
upkeep        when to say something, and when silence has lasted too long
inbound       transfers that come: segments in, acknowledgements and refusals out
outbound      transfers that go: segments out, acknowledgements and refusals in
sizing        how large a segment should be
outbox        our own messages that wait to be written
"""
