"""The formats that stems are delivered in."""

from typing import Final

#: What stems are delivered as, and the media type of each.
MEDIA_TYPES: Final = {"mp3": "audio/mpeg", "wav": "audio/wav", "flac": "audio/flac"}
