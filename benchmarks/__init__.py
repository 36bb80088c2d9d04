"""What the engine costs and what it gives, beside demucs' own command line on the same machine and weights.

`separate` measures time and memory, `quality` measures SDR; both write JSON into `results/`, and `report` makes
`docs/benchmarks.md` of it. Nothing here is imported by the service.
"""
