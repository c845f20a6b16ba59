"""Libraries that sit on the SDKs, with the patches on: `nox -s libraries`, which installs each in a venv of its own."""
