"""What pictures are made small with, by name, for those who need no torch."""

KERNELS = {"lanczos": 3.0, "bilinear": 1.0, "area": 0.5}
"""What small pictures are made by besides MATLAB's bicubic -> how many pixels of the small picture it reaches."""
