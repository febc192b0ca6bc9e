"""The outside world: one technology per file. Everything here implements the ports of the heart and decides nothing."""
