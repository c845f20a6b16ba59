"""Limits on what calls may cost: what they are, who keeps them, and the gate that every call passes before it is sent.

A *limit* is an amount for an *account* in a *window*. An account is a project, or one block of code. A *keeper* knows
how much of each is used up: a ledger, or the process's memory. The *gate* asks the keepers before a call is sent, and
what it was told to hold is settled when the call's record is written.
"""
