"""The client library: send songs to a server, watch their jobs, fetch the stems.

    from pathlib import Path
    from unmix.client import Client

    with Client("http://localhost:5000") as client:
        job_id = client.submit(Path("song.mp3"), stems=["vocals", "instrumental"], format="flac")
        job = client.wait(job_id)
        for stem in job.stems:
            client.download(job_id, stem, Path("stems") / f"{stem}.flac")

It speaks plain HTTP and knows nothing of the queue or the store. Whatever goes wrong is an `UnmixError` with the
server's own code and words: `docs/client.md` has the rest.
"""

from unmix.client.client import Client
from unmix.client.patience import Patience
from unmix.client.shapes import Failure, ModelView, Waiting
from unmix.job_view import JobSummary, JobView

__all__ = ["Client", "Failure", "JobSummary", "JobView", "ModelView", "Patience", "Waiting"]
