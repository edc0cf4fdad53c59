"""Places inside torchdiffeq that some programs import from."""
