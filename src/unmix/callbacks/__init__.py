"""Callbacks: which ends they ask for, the call, its signature, and what the answer means."""
