"""Callbacks: which addresses may be called, and the call."""
