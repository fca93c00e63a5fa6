#!/usr/bin/python3
"""A switchboard client on Twisted's Int32StringReceiver: twisted_client.py HOST PORT NAME PEER

It registers as NAME, waits for PEER, sends it a text with a receipt, answers PEER's text in upper case, and leaves.
"""
import struct
import sys

from twisted.internet import reactor
from twisted.internet.defer import Deferred, DeferredQueue, ensureDeferred
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.protocols.basic import Int32StringReceiver

HELLO, WELCOME, ERROR, GOODBYE, PING, PONG = 0x01, 0x02, 0x04, 0x05, 0x06, 0x07
SEND, RECEIPT, GAP, WATCH, SNAPSHOT, DELTA = 0x10, 0x12, 0x14, 0x20, 0x21, 0x22
FLAG_RECEIPT, FLAG_MORE, KIND_TEXT = 0x01, 0x02, 1
CLIENT, PAYLOAD_MAX, CODE, STAGE, SEQUENCE = 0x1002, 0x1003, 0x1008, 0x100A, 0x1010
NAME, TEXT, MEMBER, ARRIVED, CHANGED, DEPARTED = 0x2001, 0x2005, 0x4001, 0x4002, 0x4003, 0x4004
STAGES = {1: "QUEUED", 2: "WRITTEN", 3: "DONE"}
HEADER = struct.Struct(">BBHIQQ")  # type flags kind correlation destination source; the length is Twisted's


def fields(body):
    """The fields of a body as (tag, value); the top four bits of a tag tell what the value is."""
    while body:
        tag, length = struct.unpack_from(">HH", body)
        value, body = body[4 : 4 + length], body[4 + length :]
        yield tag, int.from_bytes(value, "big") if tag >> 12 == 1 else value


class Switchboard(Int32StringReceiver):
    MAX_LENGTH = HEADER.size + 4096  # until WELCOME names the agreed limit

    def __init__(self, name, peer):
        self.name, self.peer, self.peer_id = name.encode(), peer.encode(), None
        self.welcomed, self.peer_here = Deferred(), Deferred()
        self.texts = DeferredQueue()  # (source, text), or (source, None) when the peer has left
        self.answers = {}  # correlation -> Deferred, for RECEIPT and PONG
        self.members, self.last_delta = {}, 0
        self.watching = self.first_page = False  # an answer to WATCH is under way; its first page is due
        self.comparing = False  # a DELTA's SEQUENCE tells whether one is missing
        self.watch_again = False  # something was lost within an answer to WATCH
        self.correlation = 0
        self.leaving = self.failed = False

    async def converse(self):
        """What this client does, one step after the other."""
        print("welcome", f"{await self.welcomed:016x}", flush=True)
        self.watch()
        peer = await self.peer_here
        print("peer", f"{peer:016x}", flush=True)
        receipt = await self.request(SEND, b"hello from twisted", FLAG_RECEIPT, KIND_TEXT, peer)
        print("receipt", STAGES.get(receipt[STAGE], "of an unknown stage"), flush=True)
        source = None
        while source != peer:
            source, text = await self.texts.get()
        if text is None:
            return self.fail("the peer has left")
        print("got", text, flush=True)
        self.send(SEND, text.upper().encode(), 0, KIND_TEXT, source)
        await self.request(PING, destination=peer)  # its PONG is behind all that it has sent to us: nothing is cut off
        print("done", flush=True)
        self.leave()

    def connectionMade(self):
        name = struct.pack(">HH", NAME, len(self.name)) + self.name
        self.send(HELLO, b"SWBD" + bytes([1, 1, 0, 0]) + name)
        self.welcomed.addTimeout(10, reactor)
        ensureDeferred(self.converse()).addErrback(lambda failure: self.give_up(repr(failure.value)))

    def send(self, type_, payload=b"", flags=0, kind=0, destination=0, correlation=None):
        if correlation is None:
            correlation = self.correlation = self.correlation + 1
        if not self.leaving:
            self.sendString(HEADER.pack(type_, flags, kind, correlation, destination, 0) + payload)
        return correlation

    def request(self, *args, **kwargs):
        return self.answers.setdefault(self.send(*args, **kwargs), Deferred())

    def leave(self, say_goodbye=True):
        """Send nothing more, and read on until the relay closes, for 10 s at most."""
        if say_goodbye:
            self.send(GOODBYE)
        self.leaving = True  # section 4: nothing may follow
        reactor.callLater(10, self.transport.abortConnection)

    def fail(self, why, closing=False):
        print(why, file=sys.stderr)
        self.failed = True
        self.leave(say_goodbye=not closing)

    def give_up(self, why):
        self.fail(why, closing=True)
        self.transport.loseConnection()

    def lengthLimitExceeded(self, length):
        self.give_up(f"a length that was not agreed: {length}")

    def connectionLost(self, reason):
        if not self.leaving:
            print(reason.getErrorMessage(), file=sys.stderr)
            self.failed = True
        reactor.stop()

    def stringReceived(self, frame):
        if len(frame) < HEADER.size:
            return self.lengthLimitExceeded(len(frame))
        type_, flags, kind, correlation, _destination, source = HEADER.unpack_from(frame)
        body = frame[HEADER.size :]
        if type_ == WELCOME:
            welcome = dict(fields(body))
            self.MAX_LENGTH = HEADER.size + welcome[PAYLOAD_MAX]
            self.welcomed.callback(welcome[CLIENT])
        elif type_ == PING:
            self.send(PONG, destination=source, correlation=correlation)
        elif type_ == SEND and kind == KIND_TEXT:
            self.texts.put((source, body.decode(errors="replace")))
        elif type_ in (RECEIPT, PONG) and correlation in self.answers:
            self.answers.pop(correlation).callback(dict(fields(body)))
        elif type_ in (SNAPSHOT, DELTA):
            self.presence(type_, flags, list(fields(body)))
        elif type_ == GAP:
            self.resync()  # a DELTA may be among what is missing
        elif type_ in (ERROR, GOODBYE):
            why = dict(fields(body))
            closing = type_ == GOODBYE or why[CODE] >= 2000
            self.fail(f"error {why.get(CODE)}: {why.get(TEXT, b'').decode()}", closing)

    def watch(self):
        self.watching = self.first_page = True
        self.comparing = self.watch_again = False  # until its first page: DELTAs of the old subscription may come
        self.send(WATCH)

    def resync(self):
        """Section 6 of the specification, "Resync": something is missing."""
        if not self.watching:
            self.watch()
        elif not self.first_page:  # between two pages; a WATCH would be BUSY until the last one has come
            self.comparing, self.watch_again = False, True

    def presence(self, type_, flags, changes):
        """Section 6 of the specification, "Applying what comes"."""
        sequence = dict(changes)[SEQUENCE]
        if type_ == SNAPSHOT and self.first_page:
            self.first_page, self.comparing, self.members, self.last_delta = False, True, {}, sequence
        elif type_ == DELTA and self.comparing:
            if sequence != self.last_delta + 1:
                self.resync()  # and apply it nevertheless: the old map serves until the new one comes
            self.last_delta = sequence
        for tag, record in changes:
            if tag in (MEMBER, ARRIVED, CHANGED):
                member = dict(fields(record))
                self.members[member[CLIENT]] = member[NAME]
            elif tag == DEPARTED:
                self.members.pop(dict(fields(record))[CLIENT], None)
        if type_ == SNAPSHOT and not flags & FLAG_MORE:
            self.watching = False
            if self.watch_again:
                self.watch()
        ids = {name: id_ for id_, name in self.members.items()}
        if self.peer_id is None and self.peer in ids:
            self.peer_id = ids[self.peer]
            self.peer_here.callback(self.peer_id)
        elif self.peer_id is not None and self.peer_id not in self.members and not self.watching:
            self.texts.put((self.peer_id, None))


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    client = Switchboard(*sys.argv[3:])
    connecting = connectProtocol(HostnameEndpoint(reactor, sys.argv[1], int(sys.argv[2])), client)
    connecting.addErrback(client.connectionLost)
    reactor.run()
    sys.exit(client.failed)
