"""The demonstration: orders survive a killed worker, in less than a minute and without any server."""
