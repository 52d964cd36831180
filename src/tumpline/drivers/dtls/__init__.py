"""DTLS over datagrams that somebody else sends and receives: OpenSSL between two memory buffers, by pyOpenSSL.

probe     which versions the library has
context   certificates, keys and options; who is one peer of a context
listener  ClientHellos of strangers, answered by cookies without keeping anything
session   one association: datagrams in, plaintext out, and the other way round
channel   the associations of one conversation, one after another

All but `probe` import pyOpenSSL: links import them when their configuration asks for DTLS.
"""
