"""Runs the SDKs' own tests bare and with the patches on, and compares them test by test.

`make sdk-suites`, or `PYTHONPATH=tests python -m sdk_suites [--sdk openai] [--slice]` from the root of the work tree.
Everything it makes lies under `.sdk-suites/`; `docs/sdk-suites.md` is written when all three have been run in full.
"""
