"""One module for one outside protocol. A bridge imports `gateway.core`, never another bridge."""
