"""Care: what was handed out before may have killed its worker, and all that it is worked on with dies with it.

So a message that was handed out once before is worked on with few others, and one that was so oftener alone: what is
wrong with it is then found out of it and of nothing else.
"""

#: How many messages that were handed out once before are worked on together.
FEW = 16


def company(redeliveries: int, limit: int) -> int:
    """Return how many messages may be worked on together, where one of them was handed out so often before."""
    if redeliveries == 0:
        return limit
    return min(limit, FEW if redeliveries == 1 else 1)
