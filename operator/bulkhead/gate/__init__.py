"""The program in the agent's pod that proves isolation by packets.

It runs beside every agent, so it is made of as little of the standard library as does: the C modules below `socket`,
`select` and `os`, and none of what would bring `enum`, `re` or `typing` with it. It imports nothing else of Bulkhead.
"""
