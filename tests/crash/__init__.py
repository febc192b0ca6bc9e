"""
Worker processes struck down, or frozen, at every named point of the command path.
"""
