"""The ledger: what is owed and how it ended, as documents in the object store."""
