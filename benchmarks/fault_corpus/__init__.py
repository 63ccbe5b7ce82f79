"""The yardstick of the parity check: networks, faulty artifacts of them, honest ones, and the rules that judge them."""
