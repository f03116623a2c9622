"""A folder of pictures: which there are, what is done already, and engines that do the rest.

`folder.find_jobs` → `ledger.Ledger` says what is left → `local.run` or `cluster.run` → one `Outcome` for each picture.
"""
