"""The queue of jobs, in Redis."""
