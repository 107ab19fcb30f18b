"""Fetching one large file: in pieces, over several connections, going on where it stopped, and hashed on the way."""
