#!/usr/bin/python3
"""How twisted_client.py keeps its map of who is here when frames are missing: section 6, "Resync"."""
import struct
import unittest

from twisted_client import ARRIVED, CLIENT, DELTA, FLAG_MORE, GAP, HEADER, MEMBER, NAME, SEQUENCE, SNAPSHOT, WATCH
from twisted_client import Switchboard


def integer(tag, value):
    return struct.pack(">HHQ", tag, 8, value)


def record(tag, client):
    body = integer(CLIENT, client) + struct.pack(">HH", NAME, 1) + bytes([client])
    return struct.pack(">HH", tag, len(body)) + body


class Resync(unittest.TestCase):
    def setUp(self):
        self.client, self.watches = Switchboard("me", "nobody"), 0
        self.client.sendString = self.sent
        self.client.watch()
        self.snapshot(1, 1)
        self.assertEqual((self.watches, set(self.client.members)), (1, {1}))

    def sent(self, frame):
        self.watches += HEADER.unpack_from(frame)[0] == WATCH

    def take(self, type_, flags=0, body=b""):
        self.client.stringReceived(HEADER.pack(type_, flags, 0, 0, 0, 0) + body)

    def snapshot(self, sequence, client, flags=0):
        self.take(SNAPSHOT, flags, integer(SEQUENCE, sequence) + record(MEMBER, client))

    def delta(self, sequence, client):
        self.take(DELTA, 0, integer(SEQUENCE, sequence) + record(ARRIVED, client))

    def test_after_a_hole_deltas_are_applied_and_not_compared_until_the_first_page(self):
        for sequence, client in [(2, 2), (5, 5), (9, 9)]:
            self.delta(sequence, client)
        self.assertEqual((self.watches, set(self.client.members)), (2, {1, 2, 5, 9}))
        self.snapshot(20, 1)
        self.delta(21, 2)
        self.assertEqual((self.watches, set(self.client.members)), (2, {1, 2}))
        self.delta(23, 3)
        self.assertEqual(self.watches, 3)

    def test_what_is_missing_within_an_answer_is_asked_for_after_its_last_page(self):
        for lose in (lambda: self.take(GAP), lambda: self.delta(8, 8)):
            self.client.watch()
            self.snapshot(1, 1, FLAG_MORE)
            watches = self.watches
            lose()
            self.delta(12, 3)
            self.snapshot(12, 4, FLAG_MORE)
            self.assertEqual(self.watches, watches)
            self.snapshot(12, 5)
            self.assertEqual(self.watches, watches + 1)
            self.assertLessEqual({1, 3, 4, 5}, set(self.client.members))
            self.snapshot(13, 6)
            self.assertEqual((self.watches, set(self.client.members)), (watches + 1, {6}))


if __name__ == "__main__":
    unittest.main()
