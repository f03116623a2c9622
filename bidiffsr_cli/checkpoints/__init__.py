"""Files with weights: reading, writing, importing, and finding them by name."""
