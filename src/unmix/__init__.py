"""The shared library of Track-Unmix: names, documents, queue, stores, engine."""
