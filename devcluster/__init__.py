"""A real Kubernetes for development and tests, brought up in seconds from binaries built once.

Rooms: `components` and `packages` say what is needed, `build` makes it once into a cache, `processes` and `resources`
keep a record on disk of everything made on the machine so that all of it can be undone, `pki` and `controlplane` make
an API server, `scale` and `cluster` put nodes behind it, `lifecycle` goes through a cluster's life, `cli` and `api` are
the doors for people and for tests.
"""
