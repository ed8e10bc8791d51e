"""Speed against other libraries, in an environment of its own: `make bench`."""
