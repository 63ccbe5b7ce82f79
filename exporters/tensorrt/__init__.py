"""Target ``trt``: the kit that a TensorRT machine builds its engine from, and all that a host can show about it."""
