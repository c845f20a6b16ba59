"""What the pytest plugin needs once it is used: the calls of a test, limits for it, a summary. None imports pytest."""
