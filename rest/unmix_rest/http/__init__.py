"""What lies between the endpoints and HTTP: the server, bodies, answers, errors."""
