"""
Tests that need a real server.
"""
