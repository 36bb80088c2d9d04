"""What songs are decoded to and stems delivered as: said once, for all who read, write or serve audio. Values only."""

from typing import Final

#: Hz; every song is decoded to it and every stem is delivered in it.
SAMPLE_RATE: Final = 44_100
#: What stems are delivered as, and the media type of each.
MEDIA_TYPES: Final = {"mp3": "audio/mpeg", "wav": "audio/wav", "flac": "audio/flac"}
