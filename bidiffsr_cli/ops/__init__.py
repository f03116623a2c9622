"""The few operations of 1-bit inference, and the layout of their bits."""
