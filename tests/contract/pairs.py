"""
A primary and a replica of it, between which a test may come.
"""

from tests import controls
from tests.contract.proxy import Proxy
from tests.support.processes import eventually
from tests.support.servers import RedisServer


class Pair:
    """
    A primary and its replica, and the address at which the primary of the moment is reached.
    """

    def __init__(self, primary: RedisServer, replica: RedisServer) -> None:
        self.primary = primary
        self.replica = replica
        self.to_replica = Proxy(primary.port)
        self.address = Proxy(primary.port)
        replica.client().execute_command("REPLICAOF", "127.0.0.1", self.to_replica.port)
        eventually(lambda: replica.client().info("replication")["master_link_status"] == "up")
        self.settings = controls.settings(redis_url=f"redis://127.0.0.1:{self.address.port}/0")

    def part(self) -> None:
        """
        Let nothing more reach the replica.
        """
        self.to_replica.down()

    def fail_over(self) -> None:
        """
        Kill the primary, promote the replica, and have it reached in its place.
        """
        self.primary.kill()
        self.replica.client().execute_command("REPLICAOF", "NO", "ONE")
        self.address.lead_to(self.replica.port)

    def close(self) -> None:
        self.address.close()
        self.to_replica.close()
