"""The client's side: finds the leader, exactly once, and says truly what became of an operation.

call.py        one operation or read and its outcome
session.py     the operations of one session on their way (C2 to C4). Pure
client.py      `Client`: the leader search, retries, reads; what programs use
connection.py  sockets
monitor.py     the commit stream, every transaction once and in order
"""
