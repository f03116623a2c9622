"""How good pictures are (`metrics`, `validate`), and how fast they are made (`benchmark`, against `upstream_style`)."""
