"""What the commands do, for Python: each task is a request, and a function that carries it out.

from bidiffsr_cli import batch

result = batch(["photos/"], "big/")                               # with the command's defaults
result = tasks.batch.run(BatchRequest(["photos/"]), listener)     # the same; the listener is told what happens
"""
