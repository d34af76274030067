"""Clients of every transport, devices, and a cluster to be broken: what `benchmarks/cluster_faults.py` is made of."""
