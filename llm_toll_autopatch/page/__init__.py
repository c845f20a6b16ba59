"""The page: what was spent, to look at in a browser. One HTML file, or served live.

`snapshot` asks a ledger for what the page shows, `document` makes HTML of it, `server` serves it.
"""
