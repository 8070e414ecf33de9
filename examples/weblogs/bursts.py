"""404 bursts of an access log, without any engine: the golden of the job's bursts.

For every address and every window [from, to) of one minute, aligned to ten
seconds, in which the address got at least three times the answer 404: one line.
The whole log is in memory, and every window is counted from scratch.
"""

import calendar
import gzip
import json
import re
import sys
import time

SIZE, EVERY, LEAST = 60, 10, 3
LINE = re.compile(r'^(\S+) \S+ \S+ \[([^\]]+) \+0000\] "[^"]*" (\d{3}) ')

not_found = {}
with gzip.open(sys.argv[1], "rt", encoding="utf-8", errors="replace") as log:
    for line in log:
        m = LINE.match(line)
        if m is None:
            sys.exit("not understood: " + line)
        if m[3] == "404":
            at = calendar.timegm(time.strptime(m[2], "%d/%b/%Y:%H:%M:%S"))
            not_found.setdefault(m[1], []).append(at)

bursts = []
for address, times in not_found.items():
    first = (min(times) - SIZE) // EVERY * EVERY
    for start in range(first, max(times) + 1, EVERY):
        count = sum(1 for t in times if start <= t < start + SIZE)
        if count >= LEAST:
            bursts.append((address, start, count))

for address, start, count in sorted(bursts):
    print(json.dumps({"address": address, "from": start, "to": start + SIZE, "count": count}, separators=(",", ":")))
