"""Speed and size of the operator, measured against a real API server: `python -m bench`."""
