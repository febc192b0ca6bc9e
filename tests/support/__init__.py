"""
What tests share: private servers that can be killed, paused and restarted.
"""
