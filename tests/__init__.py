"""
The proof: what each folder needs, and how long it takes, is in its name.
"""
