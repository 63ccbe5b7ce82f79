"""Attention of any kind, watched: whatever is computed from features and multiplied with a feature map.

Squeeze-and-excitation, CBAM, ECA, coordinate attention, selective kernels, SimAM, self-attention, ... are *attention
gates*. They are found by their operations (:mod:`.finding`), never rewritten, and watched like ULSAM: their ablation is
what a converter could fold them to (:mod:`.ablation`), and their retention is read where they act (:mod:`.reading`).
"""
