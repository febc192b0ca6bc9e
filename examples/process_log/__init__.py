"""Replay a real process log (XES) through Holdfast, and compare every record with the file."""
