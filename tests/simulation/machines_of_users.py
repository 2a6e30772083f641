"""Machines as users write them: a good one, and two whose nodes would come to differ."""

import os
import random
from random import Random
from typing import Any

import aegis_replication as aegis
from aegis_replication.state_machine.user import call


class Shop(aegis.StateMachine):
    """A good one."""

    stock: dict[str, int]

    def __init__(self) -> None:
        self.stock = {}

    @aegis.command
    def receive(self, sku: str, count: int) -> int:
        self.stock[sku] = self.stock.get(sku, 0) + count
        return self.stock[sku]

    @aegis.command
    def reserve(self, sku: str, count: int) -> int:
        if self.stock.get(sku, 0) < count:
            raise ValueError(f"not {count} of {sku}")
        self.stock[sku] -= count
        return self.stock[sku]

    @aegis.query
    def available(self, sku: str) -> int:
        return self.stock.get(sku, 0)


class Dice(Shop):
    """Throws dice on every node."""

    @aegis.command
    def roll(self) -> int:
        return random.SystemRandom().randint(1, 1_000_000)


class SetOrder(Shop):
    """Takes the first of a set, which is another one under another hash seed."""

    @aegis.command
    def pick(self) -> str:
        return next(iter({"north", "east", "south", "west", "up", "down"}))


class Vanishing(Shop):
    """Takes its process with it, as the system does when memory runs out."""

    @aegis.command
    def vanish(self) -> None:
        os._exit(9)


class OneRequest(Shop):
    """Brings its own workload."""

    @staticmethod
    def simulated_request(random: Random) -> Any:
        return call(Shop.receive, "teapot", random.randint(1, 3))


class Unbearable(Shop):
    """Brings a workload that is none."""

    @staticmethod
    def simulated_request(random: Random) -> Any:
        return "receive"


not_a_machine = 3
