"""datasketch as a peer of `ingest.py`: prints {"seconds"} for near-duplicates among the lines of a file."""

import json
import sys
import time

from datasketch import MinHash, MinHashLSH


def main() -> None:
    start = time.perf_counter()
    index = MinHashLSH(threshold=0.8, num_perm=128)
    duplicates = 0
    with open(sys.argv[1], encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(file):
            words = line.lower().split()
            shingles = {" ".join(words[i : i + 5]).encode() for i in range(max(1, len(words) - 4))}
            sketch = MinHash(num_perm=128)
            sketch.update_batch(shingles)
            if index.query(sketch):
                duplicates += 1
            else:
                index.insert(str(number), sketch)
    print(json.dumps({"seconds": time.perf_counter() - start, "duplicates": duplicates}))


if __name__ == "__main__":
    main()
