"""How kernels are compiled, cached and given memory."""
