"""Telemetry: what a worker says of itself. Nothing that goes wrong here reaches the work."""
