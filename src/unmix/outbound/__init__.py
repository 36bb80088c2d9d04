"""What the service asks of servers elsewhere: which it may ask, the call, and the fetching of a song."""
