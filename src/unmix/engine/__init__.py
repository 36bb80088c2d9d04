"""Demucs as a library: load a model once, separate a song into stems in constant memory.

`models` loads, `segments` turns a song into overlapping windows and back, `separator` runs one song end to end,
`sdr` measures. Knows nothing of queues, stores, HTTP or settings; importing this package alone imports no torch.
"""
