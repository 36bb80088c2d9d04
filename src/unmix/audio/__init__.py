"""Songs as samples and stems as files: what may be decoded, decoding, encoding, and the check of an upload."""
