"""Networks, in the paper's words: their structure, modules, and programs for the native engine."""
