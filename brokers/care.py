"""Care: what was handed out before may have killed its worker, and all that it is worked on with dies with it.

So a message is worked on with fewer others the oftener it was handed out, at last alone: what is wrong with it is then
found out of it and of nothing else. Not alone at once, because a partition that is handed over, or a worker that is
killed, hands out again everything that was waiting there.

A message may also be too large to be anything. Whoever receives it keeps its beginning only, so that what is held at a
time is bounded by what messages may have and not by what a broker takes.
"""

from collections import deque

from holdfast.runtime.ports import Delivery

#: How many messages are worked on together by how often they were handed out before; alone from then on.
COMPANY = (None, 32, 8)


def company(redeliveries: int, limit: int) -> int:
    """Return how many messages may be worked on together, where one of them was handed out so often before."""
    most = COMPANY[redeliveries] if redeliveries < len(COMPANY) else 1
    return limit if most is None else min(limit, most)


#: What an envelope may have beside its command: names, a trace, and the history of a dead letter that was sent again.
ENVELOPE_BYTES_MAX = 512 * 1024
#: How much is kept of a message that is too large to be anything: it is for people to see what it was.
KEPT_BYTES = 64 * 1024
#: After so many bytes a batch takes no more messages: each becomes several times as much on its way.
BATCH_BYTES = 16 * 1024 * 1024


def received(partition: int, body: bytes, redeliveries: int, tag: object, payload_bytes_max: int) -> Delivery:
    """Return a message as a delivery; of one that is too large to be anything only the beginning, as it arrives."""
    size = len(body)
    if size <= payload_bytes_max + ENVELOPE_BYTES_MAX:
        return Delivery(partition, body, redeliveries, tag)
    return Delivery(partition, body[:KEPT_BYTES], redeliveries, tag, whole=size)


def batch_of(buffer: deque[Delivery], limit: int) -> list[Delivery]:
    """Take a batch from the front of what has arrived: suspects in small ones, and large messages in smaller ones."""
    taken: list[Delivery] = []
    size = 0
    while buffer and size < BATCH_BYTES and len(taken) < (limit := company(buffer[0].redeliveries, limit)):
        taken.append(buffer.popleft())
        size += len(taken[-1].body)
    return taken
