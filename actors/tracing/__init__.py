"""Tracing: OpenTelemetry spans around the ports and the handlers. docs/tracing.md lists them all."""
