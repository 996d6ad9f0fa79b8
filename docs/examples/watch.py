#!/usr/bin/env python3
"""Prints the events of routers as they come: a WebSocket client in the standard library alone.

usage: watch.py [HOST:PORT] [ROUTER or *] [TOPIC or *]     default: 127.0.0.1:7001 '*' '*'
"""
import base64
import hashlib
import json
import os
import socket
import struct
import sys

TEXT, CLOSE, PING, PONG = 1, 8, 9, 10


def connect(address):
    host, port = address.rsplit(":", 1)
    stream = socket.create_connection((host.strip("[]"), int(port))).makefile("rwb")
    key = base64.b64encode(os.urandom(16)).decode()
    request = [
        "GET /ws HTTP/1.1", f"Host: {address}", "Connection: Upgrade", "Upgrade: websocket",
        "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Key: {key}",
    ]
    stream.write("".join(line + "\r\n" for line in request + [""]).encode())
    stream.flush()
    head = [line.decode().strip() for line in iter(stream.readline, b"\r\n") if line]
    accept = base64.b64encode(hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest())
    if " 101 " not in head[0] or not any(line.endswith(accept.decode()) for line in head):
        sys.exit(f"no WebSocket at {address}: {head[0]}")
    return stream


def send(stream, opcode, payload):
    length = len(payload)
    mask = os.urandom(4)  # clients mask, RFC 6455 section 5.3
    size = bytes([0x80 | length]) if length < 126 else b"\xfe" + struct.pack(">H", length)
    stream.write(bytes([0x80 | opcode]) + size + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(payload)))
    stream.flush()


def receive(stream):
    """The next message of the server, as opcode and payload; it never sends one in fragments."""
    first, length = stream.read(1), stream.read(1)
    if not length:
        sys.exit("the daemon has closed the connection")
    length = length[0]
    if length >= 126:
        length, = struct.unpack(">H", stream.read(2)) if length == 126 else struct.unpack(">Q", stream.read(8))
    return first[0] & 0x0F, stream.read(length)


def main(address="127.0.0.1:7001", router="*", topic="*"):
    stream = connect(address)
    params = {"router": router, "topic": topic}
    call = {"jsonrpc": "2.0", "id": 1, "method": "subscribe", "params": params}
    send(stream, TEXT, json.dumps(call).encode())
    while True:
        opcode, payload = receive(stream)
        if opcode == PING:
            send(stream, PONG, payload)
        elif opcode == CLOSE:
            code = struct.unpack(">H", payload[:2])[0] if payload else 1005
            sys.exit(f"closed by the daemon: {code} {payload[2:].decode()}")
        elif opcode == TEXT:
            message = json.loads(payload)
            shown = message.get("params") or message.get("result") or message.get("error")
            print(json.dumps(shown), flush=True)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except KeyboardInterrupt:
        pass
    except (OSError, TypeError, ValueError) as error:
        sys.exit(f"{error}\n{__doc__}")
