"""The heart of Holdfast: it cannot do I/O.

Nothing in this folder imports redis, pika or dramatiq, opens a socket, or reads a clock that it was not handed.
"""
