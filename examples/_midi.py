"""Melodies as files that any player opens.

Source: "Standard MIDI files 1.0" (MIDI Manufacturers Association, 1988).
"""

from __future__ import annotations

import numpy as np


def midi(notes: np.ndarray) -> bytes:
    """Return a standard MIDI file of one track: pitches and durations in sixteenths (T, 2)."""
    track = b"\x00\xff\x51\x03" + (750_000).to_bytes(3, "big")  # 80 quarter notes a minute
    for pitch, duration in notes.tolist():
        ticks = 24 * duration  # at most 384, a number of two bytes, seven bits each
        wait = bytes([0x80 | ticks >> 7, ticks & 0x7F])
        track += bytes([0, 0x90, pitch, 80]) + wait + bytes([0x80, pitch, 0])
    track += b"\x00\xff\x2f\x00"
    header = b"MThd" + b"".join(n.to_bytes(k, "big") for n, k in [(6, 4), (0, 2), (1, 2), (96, 2)])
    return header + b"MTrk" + len(track).to_bytes(4, "big") + track
