#!/usr/bin/env python3
"""A router in the standard library alone: answers every command with what it carried, tells its status every 5 s,
and serves one stream: `count?to=1000` has the rows {"n":0} to {"n":999}.

usage: router.py [HOST:PORT] [ROUTER_ID]     default: 127.0.0.1:7000 example-1
"""
import collections
import json
import random
import select
import socket
import struct
import sys
import time
import urllib.parse

HELLO, WELCOME, PING, PONG, BYE, COMMAND, REPLY, EVENT = 0x01, 0x02, 0x03, 0x04, 0x05, 0x10, 0x11, 0x12
OPEN, ITEM, ACK, END, CANCEL = 0x20, 0x21, 0x22, 0x23, 0x24
MORE, ERROR, JSON, RETAIN = 0x01, 0x02, 0x04, 0x08
HEADER = struct.Struct(">BBHII")  # kind, flags, name_len, id, body_len
OPENING = struct.Struct(">IIQ")  # max_messages, max_bytes, from; the query is behind it
NUMBER = struct.Struct(">Q")
MAX_FRAGMENT = 16384
EVENT_EVERY_S = 5.0
# Seconds from and to, by how the session ended; otherwise 1 s and up, doubling to 60 s.
WAITS = {"draining": (0, 5), "takeover": (60, 120), "unauthorized": (60, 120), "unsupported_version": (60, 120)}


class Stream:
    """One OPEN: where it is, and what it may still send."""

    def __init__(self, body):
        self.max_messages, self.max_bytes, self.next = OPENING.unpack_from(body)
        query = urllib.parse.parse_qs(body[OPENING.size:].decode())
        self.end = int(query.get("to", ["10"])[0])
        self.in_flight = collections.deque()  # the lengths of the rows that were sent and not acknowledged

    def row(self):
        """The next row, made from its number alone: so any row can be sent again. None while the window is closed."""
        row = b'{"n":%d}' % self.next
        fits = len(self.in_flight) < self.max_messages and sum(self.in_flight) + len(row) <= self.max_bytes
        return row if fits else None

    def acknowledged(self, seq):
        """All rows up to `seq` are taken."""
        while self.in_flight and self.next - len(self.in_flight) <= seq:
            self.in_flight.popleft()


class Session:
    def __init__(self, router):
        self.received, self.unsent = bytearray(), bytearray()
        self.half = {}  # of commands: id -> [name, payload so far]
        self.streams = {}  # id -> Stream; they end with the session, and the daemon opens them again on the next
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
            self.send_rows()
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

    def send_rows(self):
        """A row of each stream in turn, and no more than a fragment ahead: a PONG does not wait behind a window."""
        sending = True
        while sending and len(self.unsent) < MAX_FRAGMENT:
            sending = False
            for id, stream in list(self.streams.items()):
                if stream.next >= stream.end:
                    self.send(END, 0, id, "", NUMBER.pack(stream.next))
                    del self.streams[id]
                elif (row := stream.row()) is not None:
                    self.send(ITEM, JSON, id, "", NUMBER.pack(stream.next) + row)
                    stream.in_flight.append(len(row))
                    stream.next += 1
                    sending = True

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
        elif kind == OPEN and name != "count":
            self.send(END, ERROR, id, "", b"there is no stream of that name")
        elif kind == OPEN:
            try:
                self.streams[id] = Stream(body)
                print(f"stream {name}, id {id}, from row {self.streams[id].next}", flush=True)
            except ValueError:
                self.send(END, ERROR, id, "", b"to: a whole number")
        elif kind == ACK and id in self.streams:  # one that has ended may still be acknowledged
            self.streams[id].acknowledged(NUMBER.unpack(body)[0])
        elif kind == CANCEL:
            self.streams.pop(id, None)


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
