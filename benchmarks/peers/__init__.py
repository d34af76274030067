"""The servers that the gateway is compared with, each as its users would set it up, and the gateway itself."""
