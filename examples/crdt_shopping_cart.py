"""How do three devices share a shopping list that works offline, and what travels between them?

python examples/crdt_shopping_cart.py
"""

from aegis_replication.crdt import LWWRegister, ORMap, ORSet, ResettableCounter, Text

phone, laptop, server = ORMap("phone"), ORMap("laptop"), ORMap("server")

# Each change returns its delta; send it, lose it, or send it twice.
first = phone.at("items", ORSet).add("tea")
server.merge(first)
print(f"one item is {len(first.to_bytes())} bytes on the wire")

# Both go offline and change the same things.
phone.at("items", ORSet).add("milk")
phone.at("note", Text).insert(0, "for Sunday")
laptop.merge(server)
laptop.at("items", ORSet).remove("tea")
laptop.at("items", ORSet).add("bread")
laptop.at("note", Text).insert(0, "cheap! ")
laptop.at("shop", LWWRegister).set("corner shop", 1_700_000_000_000)
laptop.at("asked", ResettableCounter).increment()

# Back online: tell the server what was seen, and get exactly what is missing.
for device in (phone, laptop, phone):
    server.merge(device.delta(server.context()))
    device.merge(server.delta(device.context()))

print("phone and laptop agree:", phone.value() == laptop.value())
print(server.to_json())
