"""Why nothing arrives: checks of this machine, and what a receiver hears in some seconds.

Each module is about one thing. A check is a function from facts to results (`CheckResult`), which
say what was found and what to do; `job` gathers the facts and calls them in order. Nothing of the
system is changed, and nothing is kept.
"""
