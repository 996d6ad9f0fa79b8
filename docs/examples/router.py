#!/usr/bin/env python3
"""A router in the standard library alone: answers every command with what it carried, and tells its status every 5 s.

usage: router.py [HOST:PORT] [ROUTER_ID]     default: 127.0.0.1:7000 example-1
"""
import json
import random
import select
import socket
import struct
import sys
import time

HELLO, WELCOME, PING, PONG, BYE, COMMAND, REPLY, EVENT = 0x01, 0x02, 0x03, 0x04, 0x05, 0x10, 0x11, 0x12
MORE, ERROR, JSON, RETAIN = 0x01, 0x02, 0x04, 0x08
HEADER = struct.Struct(">BBHII")  # kind, flags, name_len, id, body_len
MAX_FRAGMENT = 16384
EVENT_EVERY_S = 5.0
# Seconds from and to, by how the session ended; otherwise 1 s and up, doubling to 60 s.
WAITS = {"draining": (0, 5), "takeover": (60, 120), "unauthorized": (60, 120), "unsupported_version": (60, 120)}


class Session:
    def __init__(self, router):
        self.received, self.unsent = bytearray(), bytearray()
        self.half = {}  # of commands: id -> [name, payload so far]
        self.interval, self.timeout = 60.0, 20.0  # until WELCOME says otherwise
        self.heard, self.pinged, self.welcomed = time.monotonic(), None, None
        self.send(HELLO, 0, 1, router)

    def send(self, kind, flags, id, name="", payload=b""):
        """Queues a message, in parts if it is longer than one fragment; the name stands in the first part only."""
        for at in range(0, len(payload) or 1, MAX_FRAGMENT):
            part, first = payload[at:at + MAX_FRAGMENT], name.encode() if at == 0 else b""
            more = MORE if at + MAX_FRAGMENT < len(payload) else 0
            self.unsent += HEADER.pack(kind, flags | more, len(first), id, len(part)) + first + part

    def frames(self):
        while len(self.received) >= HEADER.size:
            kind, flags, name_len, id, body_len = HEADER.unpack_from(self.received)
            body_at, end = HEADER.size + name_len, HEADER.size + name_len + body_len
            if len(self.received) < end:
                return
            name, body = self.received[HEADER.size:body_at].decode(), bytes(self.received[body_at:end])
            del self.received[:end]
            yield kind, flags, id, name, body

    def run(self, stream):
        """Until the session ends; why it ended: the code of a BYE, or what happened to the socket."""
        stream.setblocking(False)
        next_event = time.monotonic() + EVENT_EVERY_S
        while True:
            now = time.monotonic()
            if self.welcomed and now >= next_event:
                next_event = now + EVENT_EVERY_S
                self.send(EVENT, JSON | RETAIN, 0, "status", b'{"uptime_s":%.1f}' % (now - self.welcomed))
            if self.pinged is None and now >= self.heard + self.interval:
                self.pinged = now
                self.send(PING, 0, 0)
            elif self.pinged is not None and now >= self.pinged + self.timeout:
                return "heartbeat_timeout"
            beat = self.heard + self.interval if self.pinged is None else self.pinged + self.timeout
            # Reading goes on while writing waits: the daemon does not read from a router that does not read.
            writing = [stream] if self.unsent else []
            readable, writable, _ = select.select([stream], writing, [], max(0, min(beat, next_event) - now))
            if writable:
                del self.unsent[:stream.send(self.unsent)]
            if readable:
                data = stream.recv(65536)
                if not data:
                    return "closed"
                self.heard, self.pinged = time.monotonic(), None
                self.received += data
                for kind, flags, id, name, body in self.frames():
                    if kind == BYE:
                        return name
                    self.take(kind, flags, id, name, body)

    def take(self, kind, flags, id, name, body):
        if kind == WELCOME:
            limits, self.welcomed = json.loads(body), time.monotonic()
            self.interval, self.timeout = (limits[f"heartbeat_{key}_ms"] / 1000 for key in ("interval", "timeout"))
            print(f"welcome, session {name}", flush=True)
        elif kind == PING:
            self.send(PONG, 0, id, "", body)
        elif kind == COMMAND and flags & ERROR:
            self.half.pop(id, None)  # aborted: its rest will not come
        elif kind == COMMAND:
            name, payload = self.half.setdefault(id, (name, bytearray()))
            payload += body
            if not flags & MORE:
                del self.half[id]
                print(f"command {name}, id {id}, {len(payload)} bytes", flush=True)
                if id:  # 0 is one-way: nobody waits for a reply
                    self.send(REPLY, flags & JSON, id, "", bytes(payload))


def main(address="127.0.0.1:7000", router="example-1"):
    host, port = address.rsplit(":", 1)
    longest = 2.0
    while True:
        session = Session(router)
        try:
            with socket.create_connection((host.strip("[]"), int(port)), timeout=10) as stream:
                why = session.run(stream)
        except OSError as error:
            why = str(error)
        if session.welcomed and time.monotonic() - session.welcomed >= 60:
            longest = 2.0  # it was a good one
        wait, longest = random.uniform(*WAITS.get(why, (1, longest))), min(60.0, longest * 2)
        print(f"{why}; again in {wait:.1f} s", flush=True)
        time.sleep(wait)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except KeyboardInterrupt:
        pass
