"""Sends with a key, none of which is carried out twice.

`opening` finds their ledger, `sends` runs them, `outcome` says what their ends mean, and `recorder` takes what is heard
of them.
"""
