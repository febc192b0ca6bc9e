"""Simulation: the whole of Holdfast in one thread, on servers in memory, with everything going wrong that can.

A seed decides all of it, so what a seed showed once it shows again.
"""
