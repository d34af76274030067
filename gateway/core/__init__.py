"""The rules: values in, values out. No sockets, no foreign protocol, no framework."""
