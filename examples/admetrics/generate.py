#!/usr/bin/env python3
"""Writes the sample data of this example: served.jsonl, views.jsonl, clicks.jsonl.

The same every time. Lines are up to 20 s out of order; some views and clicks come too long after their
ad was served, some belong to no ad that was.
"""
import json
import random
from pathlib import Path

FOLDER = Path(__file__).parent
# 2026-03-02T09:00:00Z
START_MS = 1_772_442_000_000
CAMPAIGNS = ["autumn-shoes", "city-bikes", "garden", "museum"]
ADS = 240

chance = random.Random(20260302)


def event(ad, second, **fields):
    ts = START_MS + round(second * 1000)
    return second + chance.uniform(0, 20), {"ts": ts, "ad": ad, **fields}


def write(name, events):
    lines = [json.dumps(event, separators=(",", ":")) for _, event in sorted(events, key=lambda e: e[0])]
    (FOLDER / name).write_text("\n".join(lines) + "\n")


served, views, clicks = [], [], []
for number in range(ADS):
    ad, second = f"ad-{number:04}", number * 2.5 + chance.uniform(0, 2)
    campaign = chance.choices(CAMPAIGNS, [5, 3, 2, 1])[0]
    served.append(event(ad, second, campaign=campaign, site=f"site-{chance.randrange(9)}"))
    for _ in range(chance.choices([0, 1, 2], [2, 6, 1])[0]):
        delay = chance.choices([chance.uniform(0.5, 90), chance.uniform(601, 900)], [9, 1])[0]
        views.append(event(ad, second + delay, visible_ms=chance.randrange(200, 9_000)))
        if chance.random() < 0.25:
            delay += chance.choices([chance.uniform(1, 60), chance.uniform(3_601, 4_000)], [8, 1])[0]
            clicks.append(event(ad, second + delay))
for number in range(6):
    views.append(event(f"ad-x{number}", number * 100 + 7, visible_ms=1_000))
write("served.jsonl", served)
write("views.jsonl", views)
write("clicks.jsonl", clicks)
