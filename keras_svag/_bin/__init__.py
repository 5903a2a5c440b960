"""Where an installed package has the folders trainers/ and configs/ of the checkout: see setup.py.

A file of its own, since editable installs do not find what is below a nested namespace package.
"""
