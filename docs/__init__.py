"""The documentation site, with its own extensions of Sphinx."""
