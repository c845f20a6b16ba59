"""For IPython and Jupyter: tables of what calls cost, and the magic `%%toll`."""
