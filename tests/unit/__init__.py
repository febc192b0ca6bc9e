"""
What needs no server: the heart, piece by piece.
"""
