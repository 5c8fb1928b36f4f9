"""A simulator of AlipayHK, for development and tests. Not for production.

`alipayhk` is AlipayHK as an object in memory, without sockets; `faults` is the
table of what it does wrong on order; `server` puts both on the network, next to a
control listener; `folder` keeps its throw-away keys.

It shares our protocol code, so it cannot show that we read the protocol rightly:
the vectors from openssl and from the vendor do that.
"""
