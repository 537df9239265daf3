"""The contract: the kinds, their conditions, and the CRDs generated from them."""
