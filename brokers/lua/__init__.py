"""The scripts: one transition each. `scripts.py` loads them and names their arguments."""
