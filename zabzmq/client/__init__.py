"""The client's side: finds the leader, exactly once, and says truly what became of an operation.

call.py        one operation or read and its outcome
session.py     the operations of one session on their way (C2 to C4). Pure
player.py      one name and its sessions. Pure
reads.py       reads on their way (C5, C6). Pure
search.py      who leads (C8). Pure
connection.py  sockets
client.py      `Client` puts these together: what programs use
monitor.py     the commit stream, every transaction once and in order
"""
