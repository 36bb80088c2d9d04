"""What every process needs: its services, its log, its signs of life, its end."""
