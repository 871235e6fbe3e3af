"""What makes models fast on a processor: attention, layers, kernels."""
