"""How fast the package is on a machine: `benchmark` measures, `upstream_style` is what it is measured against."""
