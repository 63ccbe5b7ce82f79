"""What operators mean for finding attention gates, by the name of the operator."""

from __future__ import annotations

from ulsam_deploy.graph.replay.rounding import MOVES

#: See many positions or channels at once.
_REDUCE = {
    "mean", "sum", "amax", "amin", "max", "min", "var", "var_mean", "std", "std_mean", "norm", "linalg_vector_norm",
    "logsumexp", "topk", "median", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d",
    "_adaptive_avg_pool2d", "_adaptive_avg_pool3d", "adaptive_max_pool1d", "adaptive_max_pool2d",
    "adaptive_max_pool3d", "avg_pool1d", "avg_pool2d", "avg_pool3d", "max_pool1d", "max_pool2d", "max_pool3d",
    "max_pool2d_with_indices", "softmax", "_softmax", "log_softmax", "_log_softmax",
}  # fmt: skip
#: Mix channels or positions by weights.
_MIX = {
    "conv1d", "conv2d", "conv3d", "convolution", "conv_transpose2d", "linear", "addmm", "mm", "bmm", "matmul",
    "baddbmm", "scaled_dot_product_attention",
}  # fmt: skip
_BOUNDED = {"sigmoid", "hardsigmoid", "softmax", "_softmax", "tanh", "hardtanh", "clamp", "relu6"}
#: What a normalization divides by: a scale, not attention.
_SCALES = {"rsqrt", "reciprocal"}
_SOFTMAX = {"softmax", "_softmax"}
_AFFINE = {"add", "sub", "rsub", "mul", "div", "neg"}
_RESIZES = {"upsample_nearest2d", "upsample_bilinear2d", "upsample_bicubic2d", "_upsample_nearest_exact2d"}
_PASSING = MOVES | _RESIZES | {"dropout", "feature_dropout", "to", "_to_copy", "type_as"}
_AFFINE_MODULES = {
    "conv1d", "conv2d", "conv3d", "convolution", "conv_transpose2d", "linear", "addmm", "batch_norm",
    "_native_batch_norm_legit_no_training",
}  # fmt: skip
_PRODUCTS = {"mm", "bmm", "matmul"}

#: The fused form of softmax(q k) v.
ATTENTION = "scaled_dot_product_attention"


def reduces(name: str) -> bool:
    """Whether each element of the operator's result depends on many elements, without weights."""
    return name in _REDUCE


def mixes(name: str) -> bool:
    """Whether the operator mixes channels or positions by weights."""
    return name in _MIX


def is_bounded(name: str) -> bool:
    """Whether the operator's result has fixed bounds, as a gate's usually has."""
    return name in _BOUNDED


def is_scale(name: str) -> bool:
    """Whether multiplying with the operator's result divides by the size of something: a normalization."""
    return name in _SCALES


def is_softmax(name: str) -> bool:
    """Whether the operator is a softmax."""
    return name in _SOFTMAX


def is_passing(name: str) -> bool:
    """Whether the operator moves, resizes or casts its first input."""
    return name in _PASSING


def is_affine(name: str) -> bool:
    """Whether the operator is affine in one input if its others are constants."""
    return name in _AFFINE


def is_affine_module(name: str) -> bool:
    """Whether the operator is affine in its first input, with weights of its own."""
    return name in _AFFINE_MODULES


def is_product(name: str) -> bool:
    """Whether the operator is a matrix product of its first two inputs."""
    return name in _PRODUCTS
