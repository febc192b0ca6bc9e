"""
A whole app under load while servers, workers and lines fail at random; what must be true at the end is checked.
"""
