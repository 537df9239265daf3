"""The only room that talks to Kubernetes: plain dicts in, plain dicts out.

`client` sends requests, `informer` mirrors what a watch tells, `apply` brings one object to what is wanted,
`leadership` says whether this replica may let things grow, `events` writes down what happened.
"""
