"""
Types: what the face promises to type checkers. These files are read, not run.

`held.py` must pass; every line of `refused.py` that ends in a comment `# type: ignore[...]` must be an error of that
kind, which strict mode checks as well: an ignore that nothing needs is an error itself.
"""
