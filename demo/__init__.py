"""The demo: a real cluster, the operator, and agents that work, attack, go round in circles and are switched off.

`python -m demo` plays it. Its acts are functions of a `demo.stage.Stage`, so that tests play the same acts.
"""
