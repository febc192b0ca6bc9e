"""Care: what was handed out before may have killed its worker, and all that it is worked on with dies with it.

So a message is worked on with fewer others the oftener it was handed out, at last alone: what is wrong with it is then
found out of it and of nothing else. Not alone at once, because a partition that is handed over, or a worker that is
killed, hands out again everything that was waiting there.
"""

#: How many messages are worked on together by how often they were handed out before; alone from then on.
COMPANY = (None, 32, 8)


def company(redeliveries: int, limit: int) -> int:
    """Return how many messages may be worked on together, where one of them was handed out so often before."""
    most = COMPANY[redeliveries] if redeliveries < len(COMPANY) else 1
    return limit if most is None else min(limit, most)
