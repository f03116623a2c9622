"""How good pictures are (`metrics`, `evaluate`), and how fast they are made (`benchmark`, against `upstream_style`)."""
