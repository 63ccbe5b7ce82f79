"""Local replay: every operator of the network, alone in float64, on what the artifact itself fed into it.

What an operator's result in the artifact differs by from that is the rounding of one operator in one precision: errors
of the layers before it are in both. So a fault stands out in float16 and int8 as it does in float32.
"""
