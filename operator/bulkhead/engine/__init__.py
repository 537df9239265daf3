"""The running parts: queue, reconcilers, and what drives them."""
