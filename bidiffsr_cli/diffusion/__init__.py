"""The mathematics of diffusion; the network is any callable."""
