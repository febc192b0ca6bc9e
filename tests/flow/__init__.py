"""
The command path from end to end: real servers, several worker processes, and the log as the witness.
"""
