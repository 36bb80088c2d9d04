"""The object store behind one protocol: a folder, or any S3 server."""
