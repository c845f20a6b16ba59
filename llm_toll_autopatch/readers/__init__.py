"""How to read the requests, chunks and responses of each API: one file an API, which knows nothing of patching."""
