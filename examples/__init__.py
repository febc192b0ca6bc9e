"""Whole small applications on Holdfast."""
