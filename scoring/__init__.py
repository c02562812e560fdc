"""`ride score` and `ride compare`: images by the million, from Parquet and others to Parquet.

- `inputs/`: what there is to score, as shards of `records`
- `reader`, `decoding`, `blocks`, `pipeline`: a shard's rows on their way through the stages
- `parts`, `writer`: rows that are written together, and how
- `run_manifest`, `journal`: which run an output folder holds, and what of it is done
- `scorer`, `ray_scorer`, `ray_cluster`: the same in threads of one process, or on Ray
- `budget`: thresholds for a mean number of experts
- `request`, `session`, `commands`: what is asked for, and the whole of it
- `summary`, `report`, `progress`: what was found, and how far it is
- `compare/`: how two runs differ
"""
