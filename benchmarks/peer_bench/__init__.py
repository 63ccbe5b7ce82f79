"""What benchmarks/peers.py and benchmarks/growth.py are made of: networks, makers of artifacts, players, tables."""
