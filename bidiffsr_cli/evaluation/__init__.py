"""How good pictures are: test sets, metrics and scores."""
