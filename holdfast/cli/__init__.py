"""The command line.

demo      watch orders survive a killed worker
dev       a worker and a server of its own, for the desk
worker    worker processes on your servers
send      hand over a command
state, history, trace, list    read instances
projections  read models: how far they are, rebuild, parked instances
diagram   a workflow as a state machine, and where an instance is in it
pools     who serves what, and what waits
stuck     what does not move, and what it waits for
dead      what was given up on
pause, resume, cancel, delete-data    what a person does to a run
observations    what came to an instance, and what became of it
sizes     what takes room
check-histories    does today's code read and fold what was recorded?
rewrap    data keys under the master key of today
doctor    are the servers as the promises need them?
"""

from holdfast.cli.commands import main

__all__ = ["main"]
