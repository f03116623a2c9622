"""Whole folders of pictures: which there are, what is done already, and engines that do the rest.

`parts.find_parts` → `ledger.Ledger` says what is left → `local.run` or `cluster.run` → one `Outcome` for each picture.
"""
