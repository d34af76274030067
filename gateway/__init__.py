"""The program: configuration, command line, server, and `app.py`, which puts the parts together."""

__version__ = "0.1.0"
