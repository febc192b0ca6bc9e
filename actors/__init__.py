"""The pools that move the work, on dramatiq; the client; and `wiring`, the one place that knows every class."""
