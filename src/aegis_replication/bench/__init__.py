"""How fast is it? Three durable nodes on a real disk, loaded by a process that speaks the wire protocol itself."""
