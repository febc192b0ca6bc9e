"""Imported in the workers of `holdfast dev`: what comes and goes as it should is not worth a line at the desk."""

import logging

for name in ("dramatiq", "holdfast"):
    logging.getLogger(name).setLevel(logging.WARNING)
