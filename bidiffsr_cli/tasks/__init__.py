"""What the commands do, for Python: each task is a request, and a function that carries it out.

from bidiffsr_cli import batch

result = batch("photos/", "big/")                                 # with the command's defaults

from bidiffsr_cli.tasks.batch import BatchRequest, run

result = run(BatchRequest("photos/", "big/"), listener)           # the same; the listener is told what happens
"""
