"""CSV files that went wrong in the ways files go wrong, from a good one and a seed."""

import random

GOOD = (
    "pseudonym,visited_on,state,walking,vas,msts93_pain,msts93_function\n"
    "QL-00001,2020-06-02,NED,aid,3,5,3\n"
    "QL-00002,2020-07-01,AWD,unaided,1,4,4\n"
    "QL-00001,2020-12-01,NED,unaided,0,5,5\n"
)
NASTY = (
    "", "NaN", "inf", "-1", "1e999", "=1+1", "'; DROP TABLE patient; --", "2020-13-45", "31.12.2020",
    "Maria Muster", "QL-99999", "\u202e", "x" * 5000, "\x00", "9" * 400, "ä€𝟚", "true", "\ufeff",
    "0x1F", "１２", "2020-06-02T00:00:00", '"', "\r", "10000000000",
)  # fmt: skip


def fuzzed(seed):
    """Bytes of one file."""
    rng = random.Random(seed)
    rows = [line.split(",") for line in GOOD.strip().split("\n")]
    for _ in range(rng.randint(1, 4)):
        match rng.randrange(9):
            case 0 | 1 | 2:
                row = rng.choice(rows)
                if row:
                    row[rng.randrange(len(row))] = rng.choice(NASTY)
            case 3:
                rng.choice(rows).append(rng.choice(NASTY))
            case 4:
                row = rng.choice(rows)
                del row[rng.randrange(len(row) + 1) :]
            case 5:
                rows.append(list(rng.choice(rows)))
            case 6:
                rng.shuffle(rows)
            case 7:
                for row in rows:
                    rng.shuffle(row)
            case 8:
                rows = rows[: rng.randrange(1, len(rows) + 1)]
    mark = rng.choice([",", ",", ";", "\t", "|"])
    raw = (
        rng.choice(["\n", "\r\n", "\r"])
        .join(mark.join(r) for r in rows)
        .encode("utf-8", "surrogatepass")
    )
    data = bytearray(raw)
    if rng.random() < 0.3 and data:
        for _ in range(rng.randint(1, 6)):
            data[rng.randrange(len(data))] = rng.randrange(256)
    if rng.random() < 0.1:
        data = data[: rng.randrange(len(data) + 1)]
    return bytes(data)
