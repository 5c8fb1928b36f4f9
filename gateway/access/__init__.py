"""Who may call what, how often, and how much at once. No I/O; time is an argument.

identify (callers) → authorise (policy) → rate (rates) → a place (admission)
"""
