"""Networks, in the paper's words: modules only."""
