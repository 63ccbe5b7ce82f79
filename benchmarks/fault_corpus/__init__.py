"""The noise floor of the parity check: networks, faulty artifacts of them, sound ones, and the rules that judge
them.
"""
